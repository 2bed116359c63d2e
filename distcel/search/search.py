"""The search: Optuna proposes points, trials train selection nets, ASHA stops weak trials.

The trial records on disk are authoritative. Every launch adds them to a new Optuna study and begins
with the trials that were interrupted. Ray Tune runs the trials on a Ray cluster (`tune.py`), or a
loop runs them in this process (`inline.py`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Executor
from distcel.execute.progress import SearchBegan, with_event
from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import SelectionParams
from distcel.search.study import quiet_optuna
from distcel.search.trials import TrialRecord, TrialStore

logger = logging.getLogger(__name__)

_N_STARTUP = 4  # random trials, as docs/benchmarks.md compares
_MOST_TRIALS_OF_GP = 50
_MAX_ROUNDS = 10  # every round after the first repeats trials whose workers were lost


@dataclass(frozen=True)
class SearchSettings:
    """The space and the budget of a search.

    Attributes:
        space: distribution of every hyperparameter, from `space.search_space`.
        first: the point of trial 0.
        max_epochs: epochs of a trial that ASHA does not stop.
        seed: seeds the sampler.
        num_samples: trials in all, including those of earlier launches.
        time_budget: seconds for the search of this launch; None sets no limit. Once the store is
            closed, no launch continues the search.
    """

    space: dict[str, BaseDistribution]
    first: SelectionParams
    max_epochs: int
    seed: int
    num_samples: int
    time_budget: float | None = None

    @property
    def rung(self) -> int:
        """The epoch after which ASHA may stop a trial, a third of all.

        With OneCycleLR the ranking of trials after their first epochs is not the final one: the
        learning rate has yet to rise and fall.
        """
        return -(-max(self.max_epochs, 2) // 3)


def run_search(
    shared: Any, settings: SearchSettings, store: TrialStore, executor: Executor, folder: Path
) -> list[TrialRecord]:
    """Run trials until the store has the wanted number of finished ones; return all records.

    Args:
        shared: the TrainingTask that every trial trains on, as `executor.share` returned it.
        settings: the space and the budget.
        store: finished and interrupted trials of earlier launches; the new ones are added.
        executor: runs the trials.
        folder: the folder of Tune's own files, which are never read again.

    Raises:
        RunFailedError: workers were lost in each of ten rounds.
    """
    run_trials: Callable[..., bool]
    if isinstance(executor, InlineExecutor):
        from distcel.search.inline import run_trials
    else:
        from distcel.search.tune import run_trials

    wanted = store.wanted(settings.num_samples)
    if wanted < settings.num_samples:
        logger.warning(
            "the search ended with %d trials before the test split was read; "
            "a num_samples above that of all earlier launches adds trials",
            wanted,
        )
    seconds = settings.time_budget or math.inf
    deadline = time.monotonic() + seconds
    store.n_wanted, trials = wanted, tuple(record.progress() for record in store.finished())
    began = SearchBegan(wanted, settings.max_epochs, seconds, trials)
    logger.debug("%d trials, %d ended before", wanted, len(trials), extra=with_event(began))
    for _ in range(_MAX_ROUNDS):
        remaining = wanted - len(store.finished())
        seconds = deadline - time.monotonic()
        if remaining <= 0 or seconds <= 0:
            break
        if not store.snapshot():
            # Trials start in any order; the record keeps this one if the launch is killed early.
            store.keep(TrialRecord(store.next_number(), settings.first, "RUNNING"))
        if not run_trials(shared, settings, store, executor, folder, remaining, seconds):
            break
    else:
        raise RunFailedError("workers were lost repeatedly: the same command continues the run")
    for record in store.running():  # the time budget ended while they ran
        if record.epochs:
            store.complete(record.number)
    return store.snapshot()


def new_sampler(settings: SearchSettings, store: TrialStore) -> optuna.samplers.BaseSampler:
    """A GP sampler, or TPE for more than 50 trials; points are random until four are complete.

    Its seed depends on the number of trials: the same seed would repeat the first launch's points.
    """
    quiet_optuna()
    seed = settings.seed + 1000 * (len(store.snapshot()) - 1)
    # A GP's proposal takes longer with every trial, and meanwhile no result is read.
    if settings.num_samples > _MOST_TRIALS_OF_GP:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_N_STARTUP)
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=_N_STARTUP)
