"""Compares samplers by searches replayed on a table, without training.

    python -m benchmarks.samplers cifar10

Reads `benchmarks/sampler_table_DATASET.json`, which `benchmarks.sampler_table` writes, and replays
each sampler's searches on it as `benchmarks.sampler_replay` says, one for each seed from 0, with
trials stopped early as in the search. Regret is what the table's best point has above the chosen
one on valid after all epochs, in percentage points. It is shown when all trials together have had
the epochs of so many trainings to the end, and after so many trials.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from benchmarks.measure import conditions
from benchmarks.measure import table as markdown
from benchmarks.sampler_replay import N_WORKERS, Replayed, Table, regret, replay
from benchmarks.sampler_table import table_path
from distcel.execute.inline import one_thread
from distcel.experiment.loading import load_experiment
from distcel.experiment.space import search_space
from distcel.experiment.types import Experiment, SelectionParams, first_point
from distcel.search.search import SearchSettings

FULL_TRAININGS = (2, 4, 8)  # budgets, in epochs of so many trainings to the end
SPACES = ("own", "random_first", "noisy", "larger")
NOISE = 0.003
JUDGED, TARGET = 4, 0.3  # the median regret after so many trainings, in points, at most


class SobolStart(BaseSampler):
    """Trials of a Sobol sequence, then those of another sampler."""

    def __init__(self, n_startup: int, seed: int, after: BaseSampler) -> None:
        self.n_startup, self.after = n_startup, after
        self.sobol = QMCSampler(scramble=True, seed=seed, warn_independent_sampling=False)

    def _sampler_for(self, trial: FrozenTrial) -> BaseSampler:
        return self.sobol if trial.number < self.n_startup else self.after

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._sampler_for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler_for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, dist: BaseDistribution
    ) -> Any:
        return self._sampler_for(trial).sample_independent(study, trial, param_name, dist)


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
}


@dataclass(frozen=True)
class Space:
    """A space to search, and how often it is searched.

    Attributes:
        title: what is searched.
        experiment: has the space and the first trial.
        n_trials: the numbers of trials after which the regret is shown.
        searches: of each sampler.
        gp_trials: the trials of such a search.
        random_first: whether the first trial is a random point, as where nobody knows a good one.
        noise: of a trial's accuracy, a fraction: trainings are less smooth than interpolation.
    """

    title: str
    experiment: Experiment
    n_trials: tuple[int, ...]
    searches: int
    gp_trials: int
    random_first: bool = False
    noise: float = 0.0


def spaces(dataset: str) -> dict[str, Space]:
    """Preset quick's own space, and the same with preset paper's k, m and gradient."""
    quick, paper = load_experiment(dataset, "quick"), load_experiment(dataset, "paper")
    larger = replace(
        quick,
        k="searched",
        space={**paper.space, **quick.space},
        first_trial=replace(quick.first_trial, k=paper.first_trial.k),
    )
    own = Space("lr and epsilon, one net for every k", quick, (4, 8, 16), 1000, 16)
    random = f"{own.title}, a random first trial"
    noisy = f"{own.title}, noise of {100 * NOISE} points"
    found = (
        own,
        replace(own, title=random, random_first=True),
        replace(own, title=noisy, noise=NOISE),
        Space("k, m, gradient, lr and epsilon", larger, (8, 24, 50), 200, 24),
    )
    return dict(zip(SPACES, found, strict=True))


def search_settings(space: Space, facts: dict[str, Any], num_samples: int) -> SearchSettings:
    """The search of a space."""
    experiment, n_learners = space.experiment, facts["n_learners"]
    return SearchSettings(
        space=search_space(experiment, n_learners, {}),
        first=first_point(experiment, n_learners, {}),
        max_epochs=facts["recipe"]["epochs"],
        seed=0,
        num_samples=num_samples,
    )


def searches(
    table: Table, facts: dict[str, Any], space: Space, name: str, gp_share: float
) -> list[Sequence[Replayed]]:
    """All searches of a sampler; those of a seed begin with the same point for every sampler."""
    is_gp = "GP" in name
    settings = search_settings(space, facts, space.gp_trials if is_gp else max(space.n_trials))
    found: list[Sequence[Replayed]] = []
    for seed in range(round(space.searches * gp_share) if is_gp else space.searches):
        settings = replace(settings, seed=seed)
        if space.random_first:
            other = RandomSampler(seed=10**6 + seed)  # not the one with which a sampler continues
            point = optuna.create_study(sampler=other).ask(settings.space).params
            settings = replace(settings, first=SelectionParams.from_dict(point))
        found.append(replay(table, settings, SAMPLERS[name](seed), space.noise))
    return found


def row(
    table: Table, facts: dict[str, Any], space: Space, name: str, gp_share: float
) -> list[object]:
    """The regrets of a sampler; how long its searches took is printed."""
    started = time.monotonic()
    found = searches(table, facts, space, name, gp_share)
    waits = [n * table.accuracy_LEe.shape[-1] / N_WORKERS for n in FULL_TRAININGS]
    by_budget = [[regret(table, trials, wait) for trials in found] for wait in waits]
    by_trials = [
        [regret(table, trials[:n]) for trials in found] if n <= len(found[0]) else []
        for n in space.n_trials
    ]
    judged = statistics.median(by_budget[FULL_TRAININGS.index(JUDGED)])
    verdict = "met" if judged <= TARGET else "**missed**"
    print(f"{space.title}, {name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return [name, len(found), *map(_spread, by_budget + by_trials), verdict]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}, {np.percentile(values, 90):.2f}" if values else ""


def section(table: Table, facts: dict[str, Any], space: Space, gp_share: float) -> str:
    """The table of a space, as Markdown."""
    first = table.at(search_settings(space, facts, 1).first.as_dict())[-1]
    head = ["sampler", "searches", *(f"{n} trainings" for n in FULL_TRAININGS)]
    head += [*(f"{n} trials" for n in space.n_trials), f"{TARGET} at {JUDGED} trainings"]
    title = (
        f"Searched: {space.title}. Median and 90th percentile of the regret in percentage "
        f"points. The best point has {100 * table.best:.2f} %"
        + ("." if space.random_first else f", the first trial {100 * first:.2f} %.")
    )
    rows = [row(table, facts, space, name, gp_share) for name in SAMPLERS]
    return f"{title}\n\n{markdown(head, rows)}\n"


def main() -> None:
    """Print the tables."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--only", choices=SPACES, action="append", help="a table (all)")
    flags.add_argument("--gp-share", type=float, default=0.1, help="of the searches (0.1)")
    arguments = flags.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # QMCSampler's
    table, facts = Table.read(table_path(arguments.dataset))
    found = spaces(arguments.dataset)
    print(f"{arguments.dataset}, preset {facts['preset']}, {conditions()}.\n")
    with one_thread():
        for name in arguments.only or SPACES:
            print(section(table, facts, found[name], arguments.gp_share), flush=True)


if __name__ == "__main__":
    main()
