"""Compares samplers by searches replayed on a table, without training.

    python -m benchmarks.samplers cifar10

Reads `benchmarks/sampler_table_DATASET.json`, which `benchmarks.sampler_table` writes, and replays
each sampler's searches on it as `benchmarks.sampler_replay` says, one for each seed from 0. Regret
is what the table's best point has above the chosen one on valid after all epochs, in percentage
points.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from benchmarks.measure import table as markdown
from benchmarks.sampler_replay import N_WORKERS, Replayed, Table, regret, replay
from benchmarks.sampler_table import searched_k, table_path
from distcel.execute.inline import one_thread
from distcel.experiment.space import search_space
from distcel.experiment.types import first_point
from distcel.search.search import SearchSettings

N_TRIALS = (4, 8, 16, 30)
FULL_TRAININGS = (2, 4, 8)  # budgets, in epochs of so many trainings to the end
REPETITIONS, GP_REPETITIONS = 1000, 100  # a proposal of GP takes a hundred times as long
MOST_TRIALS_OF_GP = 16


class SobolStart(BaseSampler):
    """Trials of a Sobol sequence, then those of another sampler."""

    def __init__(self, n_startup: int, seed: int, after: BaseSampler) -> None:
        self.n_startup, self.after = n_startup, after
        self.sobol = QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        return self.sobol if trial.number < self.n_startup else self.after

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, dist: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, dist)


def _gp(seed: int, n_startup: int) -> GPSampler:
    return GPSampler(seed=seed, n_startup_trials=n_startup, warn_independent_sampling=False)


# Every sampler counts the preset's first trial among those that it starts with. TPE is the search's
# own, multivariate and with a constant liar, which are Optuna 5's defaults.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "Sobol": lambda seed: QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False),
    "TPE after 10": lambda seed: TPESampler(seed=seed),
    "TPE after 4": lambda seed: TPESampler(seed=seed, n_startup_trials=4),
    "TPE after 2": lambda seed: TPESampler(seed=seed, n_startup_trials=2),
    "Sobol, TPE after 4": lambda s: SobolStart(4, s, TPESampler(seed=s, n_startup_trials=1)),
    "GP after 4": lambda seed: _gp(seed, 4),
    "GP after 2": lambda seed: _gp(seed, 2),
    "Sobol, GP after 4": lambda seed: SobolStart(4, seed, _gp(seed, 1)),
}


def settings_of(dataset: str, facts: dict[str, Any], n_trials: int) -> SearchSettings:
    """The search of the data set's preset, with so many trials."""
    experiment, n_learners = searched_k(dataset), facts["n_learners"]
    return SearchSettings(
        space=search_space(experiment, n_learners, {}),
        first=first_point(experiment, n_learners, {}),
        max_epochs=facts["recipe"]["epochs"],
        seed=0,
        num_samples=n_trials,
    )


def by_trials(table: Table, searches: Sequence[Sequence[Replayed]]) -> list[str]:
    """For each number of trials the regrets, and the trials' epochs in full trainings.

    Both are empty where the searches have fewer trials.
    """
    cells, n_epochs = [], table.accuracy_KLEe.shape[-1]
    for n in N_TRIALS:
        if len(searches[0]) < n:
            cells += ["", ""]
            continue
        epochs = sum(trial.n_epochs for trials in searches for trial in trials[:n])
        cells.append(_spread([regret(table, trials[:n]) for trials in searches]))
        cells.append(f"{epochs / len(searches) / n_epochs:.1f}")
    return cells


def by_budget(table: Table, searches: Sequence[Sequence[Replayed]]) -> list[str]:
    """The regrets when all trials together have had so many epochs."""
    waits = [n * table.accuracy_KLEe.shape[-1] / N_WORKERS for n in FULL_TRAININGS]
    return [_spread([regret(table, trials, ended) for trials in searches]) for ended in waits]


def _spread(regrets: Sequence[float]) -> str:
    median, mean = statistics.median(regrets), statistics.mean(regrets)
    return f"{median:.2f} / {mean:.2f} / {np.percentile(regrets, 90):.2f}"


def report(dataset: str, repetitions: int, gp_repetitions: int) -> str:
    """The tables, as Markdown; how long a sampler took is printed when its searches are done."""
    table, facts = Table.read(table_path(dataset))
    whole, stopped, budgets = [], [], []
    for name, new in SAMPLERS.items():
        is_gp, started = "GP" in name, time.monotonic()
        count = gp_repetitions if is_gp else repetitions
        settings = settings_of(dataset, facts, MOST_TRIALS_OF_GP if is_gp else max(N_TRIALS))
        to_end, asha = (
            [replay(table, settings, new(seed), stops) for seed in range(count)]
            for stops in (False, True)
        )
        whole.append([name, count, *by_trials(table, to_end)])
        stopped.append([name, count, *by_trials(table, asha)])
        budgets.append([name, count, *by_budget(table, asha)])
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    best = np.nanmax(table.accuracy_KLEe[..., -1])
    first = best - table.nearest(settings.first.as_dict())[-1]
    head = ["sampler", "searches"]
    head_trials = head + [cell for n in N_TRIALS for cell in (f"{n} trials", "trainings")]
    parts = [
        f"{dataset}, preset {facts['preset']}: the table's best point has {100 * best:.2f} % on "
        f"valid, and the preset's first trial a regret of {100 * first:.2f} points.",
        "Regret: median / mean / 90th percentile. Every trial to its end:",
        markdown(head_trials, whole),
        f"Trials stopped after {settings.rung} of {settings.max_epochs} epochs, as in the search. "
        "Trainings are the epochs of all trials over those of one to its end:",
        markdown(head_trials, stopped),
        "The same, ended when all trials together have had the epochs of so many trainings:",
        markdown(head + [f"{n} trainings" for n in FULL_TRAININGS], budgets),
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--repetitions", type=int, default=REPETITIONS)
    flags.add_argument("--gp-repetitions", type=int, default=GP_REPETITIONS)
    arguments = flags.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # QMCSampler's
    with one_thread():
        print(report(arguments.dataset, arguments.repetitions, arguments.gp_repetitions))


if __name__ == "__main__":
    main()
