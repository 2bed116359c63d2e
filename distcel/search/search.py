"""The search: Optuna proposes points, trials train selection nets, ASHA stops weak trials.

The trial records on disk are the truth. Every launch gives a fresh Optuna study what the records
hold and begins with the trials that were interrupted. On a Ray cluster Ray Tune runs the trials
(`tune.py`), in this process a loop does (`inline.py`).
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
from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import SelectionParams
from distcel.search.trials import TrialRecord, TrialStore

logger = logging.getLogger(__name__)

_MAX_ROUNDS = 10  # of the search, each but the first because a trial was lost


@dataclass(frozen=True)
class SearchSettings:
    """What is searched, and for how long.

    Attributes:
        space: distribution of every hyperparameter, from `space.search_space`.
        first: the point of trial 0.
        max_epochs: of a trial that ASHA does not stop.
        seed: of the sampler.
        num_samples: trials in all, earlier launches included.
        time_budget: seconds for this launch's part of the search, which is not continued once the
            store is closed; None sets no limit.
    """

    space: dict[str, BaseDistribution]
    first: SelectionParams
    max_epochs: int
    seed: int
    num_samples: int
    time_budget: float | None = None

    @property
    def rung(self) -> int:
        """The epoch after which ASHA may stop a trial: a third of all.

        With OneCycleLR the order of trials after their first epochs is not that of the last one:
        the learning rate has yet to rise and fall.
        """
        return -(-max(self.max_epochs, 2) // 3)


def run_search(
    shared: Any, settings: SearchSettings, store: TrialStore, executor: Executor, folder: Path
) -> list[TrialRecord]:
    """Bring the store up to the wanted number of finished trials and return all records.

    Args:
        shared: the TrainingTask that every trial trains on, as `executor.share` returned it.
        settings: what is searched, and for how long.
        store: finished and interrupted trials of earlier launches; the new ones are added.
        executor: where the trials run.
        folder: for Tune's own files, which nothing is read from again.

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
            "more --num-samples than were ever asked for add trials",
            wanted,
        )
    deadline = time.monotonic() + (settings.time_budget or math.inf)
    for _ in range(_MAX_ROUNDS):
        remaining = wanted - len(store.finished())
        seconds = deadline - time.monotonic()
        if remaining <= 0 or seconds <= 0:
            break
        if not store.snapshot():
            # Trials start in any order: a kill before this one has begun is not to lose it.
            store.keep(TrialRecord(store.next_number(), settings.first, "RUNNING"))
        if not run_trials(shared, settings, store, executor, folder, remaining, seconds):
            break
    else:
        raise RunFailedError("workers were lost again and again: the same command carries on")
    for record in store.running():  # the time budget ended while they ran
        if record.epochs:
            store.complete(record.number)
    return store.snapshot()


def new_sampler(settings: SearchSettings, store: TrialStore) -> optuna.samplers.BaseSampler:
    """TPE, whose points are random until ten trials are complete.

    A sampler of the same seed would propose the first launch's points again.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = settings.seed + 1000 * (len(store.snapshot()) - 1)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
