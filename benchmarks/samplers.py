"""Compares samplers by searches replayed on a table, without training.

    python -m benchmarks.samplers cifar10

Reads `benchmarks/sampler_table_DATASET.json`, which `benchmarks.sampler_table` writes, and replays
each sampler's searches on it as `benchmarks.sampler_replay` says, one for each seed from 0, with
trials stopped early as in the search. Regret is what the table's best point has above the chosen
one on valid after all epochs, in percentage points. It is shown when all trials together have had
the epochs of four trainings to the end, and after so many trials.
"""

from __future__ import annotations

import argparse
import statistics
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
from distcel.execute.process import worker_settings
from distcel.experiment.loading import load_experiment
from distcel.experiment.space import search_space
from distcel.experiment.types import Experiment, SelectionParams, first_point
from distcel.search.search import SearchSettings

FULL_TRAININGS = 4  # the budget, in epochs of so many trainings to the end
TARGET = 0.3  # the median regret then, in points, at most
SPACES = ("own", "random_first", "noisy", "larger")


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


# Every sampler counts the preset's first trial among those that it starts with. TPE is the search's
# own, multivariate and with a constant liar, which are Optuna 5's defaults.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "TPE after 10": lambda seed: TPESampler(seed=seed),
    "TPE after 4": lambda seed: TPESampler(seed=seed, n_startup_trials=4),
    "Sobol, TPE after 4": lambda s: SobolStart(4, s, TPESampler(seed=s, n_startup_trials=1)),
    "GP after 4": lambda seed: GPSampler(seed=seed, n_startup_trials=4),
}


@dataclass(frozen=True)
class Space:
    """A space to search.

    Attributes:
        title: what is searched.
        experiment: has the space and the first trial.
        n_trials: the number of trials after which the regret is shown.
        random_first: whether the first trial is a random point, as where nobody knows a good one.
        noise: standard deviation of a trial's accuracy: the table is smoother than trainings are.
    """

    title: str
    experiment: Experiment
    n_trials: int = 8
    random_first: bool = False
    noise: float = 0.0


def spaces(table: Table, facts: dict[str, Any]) -> dict[str, Space]:
    """Preset quick's own space, and the same with preset paper's k, m and gradient."""
    quick, paper = (load_experiment(facts["dataset"], preset) for preset in ("quick", "paper"))
    larger = replace(
        quick,
        k="searched",
        space={**paper.space, **quick.space},
        first_trial=replace(quick.first_trial, k=paper.first_trial.k),
    )
    # The standard error of an accuracy on as many samples: trainings that differ by their draws
    # alone are nearer to each other.
    noise = (table.best * (1 - table.best) / facts["n_samples"]["valid"]) ** 0.5
    own = Space("lr and epsilon, one net for every k", quick)
    random = replace(own, title=f"{own.title}, a random first trial", random_first=True)
    title = f"{random.title}, noise of {100 * noise:.2f} points"
    noisy = replace(random, title=title, noise=noise)
    found = (own, random, noisy, Space("k, m, gradient, lr and epsilon", larger, 24))
    return dict(zip(SPACES, found, strict=True))


def search_settings(space: Space, facts: dict[str, Any]) -> SearchSettings:
    """The search of a space."""
    experiment, n_learners = space.experiment, facts["n_learners"]
    return SearchSettings(
        space=search_space(experiment, n_learners, {}),
        first=first_point(experiment, n_learners, {}),
        max_epochs=facts["recipe"]["epochs"],
        seed=0,
        num_samples=space.n_trials,
    )


def budget_end(settings: SearchSettings) -> float:
    """When the workers have trained for the epochs of so many trainings."""
    return FULL_TRAININGS * settings.max_epochs / N_WORKERS


def searches(
    table: Table, settings: SearchSettings, space: Space, name: str, count: int
) -> list[Sequence[Replayed]]:
    """So many searches of a sampler; those of a seed begin with the same point for each sampler."""
    found: list[Sequence[Replayed]] = []
    ended = budget_end(settings)
    for seed in range(count):
        seeded = replace(settings, seed=seed)
        if space.random_first:
            other = RandomSampler(seed=10**6 + seed)  # not the one with which a sampler continues
            point = optuna.create_study(sampler=other).ask(settings.space).params
            seeded = replace(seeded, first=SelectionParams.from_dict(point))
        found.append(replay(table, seeded, SAMPLERS[name](seed), space.noise, ended))
    return found


def row(
    table: Table, settings: SearchSettings, space: Space, name: str, count: int
) -> list[object]:
    """The regrets of a sampler."""
    found = searches(table, settings, space, name, count)
    by_budget = [regret(table, trials, budget_end(settings)) for trials in found]
    by_trials = [regret(table, trials[: space.n_trials]) for trials in found]
    verdict = "met" if statistics.median(by_budget) <= TARGET else "**missed**"
    return [name, count, _spread(by_budget), _spread(by_trials), verdict]


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}, {np.percentile(values, 90):.2f}"


def section(table: Table, facts: dict[str, Any], space: Space, counts: dict[str, int]) -> str:
    """The table of a space, as Markdown; `counts` has each sampler's number of searches."""
    settings = search_settings(space, facts)
    first = table.at(settings.first.as_dict())[-1]
    head = ["sampler", "searches", f"{FULL_TRAININGS} trainings", f"{space.n_trials} trials"]
    head += [f"{TARGET} at {FULL_TRAININGS} trainings"]
    title = (
        f"{facts['dataset']}, searched: {space.title}. Median and 90th percentile of the regret in "
        f"percentage points. The best point has {100 * table.best:.2f} %"
        + ("." if space.random_first else f", the first trial {100 * first:.2f} %.")
    )
    rows = [row(table, settings, space, name, count) for name, count in counts.items()]
    return f"{title}\n\n{markdown(head, rows)}\n"


def main() -> None:
    """Print the tables."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--only", choices=SPACES, action="append", help="a table (all)")
    flags.add_argument("--searches", type=int, default=1000, help="of a sampler (1000)")
    flags.add_argument("--gp-searches", type=int, default=100, help="of the slow GP (100)")
    arguments = flags.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # QMCSampler's
    table, facts = Table.read(table_path(arguments.dataset))
    counts = {
        name: arguments.gp_searches if "GP" in name else arguments.searches for name in SAMPLERS
    }
    found = spaces(table, facts)
    print(f"{conditions()}.\n")
    with worker_settings():
        for name in arguments.only or SPACES:
            print(section(table, facts, found[name], counts), flush=True)


if __name__ == "__main__":
    main()
