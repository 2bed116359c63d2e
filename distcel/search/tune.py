"""The search: Ray Tune runs the trials, Optuna's TPE proposes points, ASHA stops weak trials.

The trial records are the only truth. Every launch builds a fresh Tuner and a fresh Optuna study
in memory, tells the study what the records hold, and begins with what was interrupted.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import ray
from optuna.distributions import BaseDistribution
from ray import tune
from ray.air.execution._internal import actor_manager
from ray.tune.execution import tune_controller
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import SelectionParams
from distcel.search.recorder import NotKeptError, Recorder, say_complete
from distcel.search.selection import METRIC, SelectionTrial, TaskRef
from distcel.search.trials import TrialStore, first_params
from distcel.train.trial_record import TrialRecord

# Ray kills what takes too much memory with an error that Tune does not count among those of an
# actor: one such trial would end the whole search.
_ACTOR_ERRORS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
for _module in (actor_manager, tune_controller):
    _module.RayActorError = _ACTOR_ERRORS  # type: ignore[attr-defined]
# Tune prints tracebacks where it cannot copy its own state, which nothing is read from again: a
# full disk is said once, by the record that could not be kept.
logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
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
        time_budget: seconds for this launch's part of the search, which is not taken up again once
            the store is closed; None sets no limit.
    """

    space: dict[str, BaseDistribution]
    first: SelectionParams
    max_epochs: int
    seed: int
    num_samples: int
    time_budget: float | None = None


def run_search(
    task: TaskRef, settings: SearchSettings, store: TrialStore, pool: WorkerPool, folder: Path
) -> list[TrialRecord]:
    """Bring the store up to the wanted number of finished trials and return all records.

    Args:
        task: what every trial trains on, in Ray's object store.
        settings: what is searched, and for how long.
        store: finished and interrupted trials of earlier launches; the new ones are added.
        pool: how many trials run at once, and their resources.
        folder: for Tune's own files, which nothing is read from again.

    Raises:
        RunFailedError: workers were lost in each of ten rounds.
    """
    wanted = store.wanted(settings.num_samples)
    if wanted < settings.num_samples:
        more = "more --num-samples than were ever asked for add trials"
        print(f"the search ended with {wanted} trials before the test split was read; {more}")
    deadline = time.monotonic() + (settings.time_budget or math.inf)
    for _ in range(_MAX_ROUNDS):
        remaining = wanted - len(store.finished())
        seconds = deadline - time.monotonic()
        if remaining <= 0 or seconds <= 0:
            break
        shutil.rmtree(folder, ignore_errors=True)
        if not store.snapshot():
            # Tune starts trials in any order: a kill before this one has begun is not to lose it.
            store.keep(TrialRecord(store.next_number(), settings.first, "RUNNING"))
        recorder = Recorder(store)
        try:
            _tuner(task, settings, recorder, pool, folder, remaining, seconds).fit()
        except NotKeptError as failure:
            raise failure.error from None
        if not recorder.lost_a_trial:
            break
    else:
        raise RunFailedError("workers were lost again and again: the same command carries on")
    for record in store.running():  # the time budget ended while they ran
        if record.epochs:
            store.keep(replace(record, state="COMPLETE"))
            say_complete(record)
    return store.snapshot()


def _tuner(
    task: TaskRef,
    settings: SearchSettings,
    recorder: Recorder,
    pool: WorkerPool,
    folder: Path,
    num_samples: int,
    seconds: float,
) -> tune.Tuner:
    resources = {"cpu": pool.num_cpus, "gpu": pool.num_gpus}
    trainable = tune.with_resources(tune.with_parameters(SelectionTrial, task=task), resources)
    first = first_params(recorder.store.snapshot(), settings.first)
    trainable.__qualname__ = SelectionTrial.__name__  # what the Ray dashboard shows
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=_searcher(settings, recorder.store),
            scheduler=StoppingRule(settings.max_epochs, first),
            num_samples=num_samples,
            max_concurrent_trials=min(pool.size, num_samples),
            time_budget_s=seconds if seconds < math.inf else None,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[recorder],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )


class StoppingRule(AsyncHyperBandScheduler):
    """ASHA, which may stop a trial after a third of its epochs; the next rung is the last epoch.

    With OneCycleLR the order of trials after their first epochs is not that of the last one: the
    learning rate has yet to rise and fall. So that no search is worse on valid than the point that
    it begins with, that one has all its epochs.

    Args:
        max_epochs: of a trial that is not stopped.
        first: the parameters of the trial that never is.
    """

    def __init__(self, max_epochs: int, first: SelectionParams) -> None:
        self._first = first.as_dict()
        max_t = max(max_epochs, 2)
        super().__init__(max_t=max_t, grace_period=-(-max_t // 3), reduction_factor=3)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """As Tune asks for it."""
        action = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if trial.config == self._first else action


def _searcher(settings: SearchSettings, store: TrialStore) -> OptunaSearch:
    """TPE that has been told the finished trials and begins with the interrupted ones.

    Its points are random until ten trials are complete, but for those that are given.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    finished = store.finished()
    # A sampler of the same seed would propose the first launch's points again.
    seed = settings.seed + 1000 * (len(store.snapshot()) - 1)
    searcher = OptunaSearch(
        settings.space,
        metric=METRIC,
        mode="max",
        points_to_evaluate=[record.params.as_dict() for record in store.running()],
        sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
    )
    for record in finished:
        failed = record.state == "FAILED"
        value = math.nan if failed else record.valid_accuracy
        searcher.add_evaluated_point(record.params.as_dict(), value, error=failed)
    return searcher
