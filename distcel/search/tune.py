"""Runs the trials of a search on a Ray cluster by Ray Tune, whose files are never read again."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from distcel.execute.environment import environment
from distcel.execute.jobs import Failed
from distcel.execute.process import set_up_worker
from distcel.execute.ray_executor import RayExecutor, Shared
from distcel.execute.ray_worker import worker_device
from distcel.experiment.errors import DivergedError
from distcel.experiment.types import SelectionParams
from distcel.search.ray_patch import memory_kills_are_actor_errors
from distcel.search.recorder import OUTCOME, SAMPLES, WORKER, NotKeptError, Recorder
from distcel.search.search import SearchSettings, new_sampler
from distcel.search.silence import Silence
from distcel.search.trials import TrialStore, first_params
from distcel.storage.provenance import describe_worker, library_versions, require_versions
from distcel.train.selection import SelectionTraining, TrainingTask

METRIC = "valid_accuracy"


def run_trials(
    shared: Shared,
    settings: SearchSettings,
    store: TrialStore,
    executor: RayExecutor,
    folder: Path,
    n_trials: int,
    seconds: float,
) -> bool:
    """Run `n_trials` trials, interrupted ones first, or as many as end within `seconds`.

    Returns:
        bool: whether a trial lost its worker and needs another round.
    """
    shutil.rmtree(folder, ignore_errors=True)
    recorder = Recorder(store)
    tuner = _tuner(shared.reference, settings, recorder, executor, folder, n_trials, seconds)
    try:
        with _tune_settings(), memory_kills_are_actor_errors():
            tuner.fit()
    except NotKeptError as failure:
        raise failure.error from None
    return recorder.lost_a_trial


@contextmanager
def _tune_settings() -> Iterator[None]:
    """Tune prints nothing and has no loggers of its own, and Ctrl-C raises KeyboardInterrupt."""
    # Tune logs a traceback when it cannot copy its own state, which is never read again. A full
    # disk is reported once, by the record that could not be written.
    tunes_state = logging.getLogger("ray.tune.execution.experiment_state")
    tunes_errors = logging.getLogger("ray.tune.execution.tune_controller")
    level = tunes_state.level
    tunes_state.setLevel(logging.CRITICAL)
    tunes_errors.addFilter(_is_no_lost_worker)
    try:
        with environment(
            RAY_AIR_NEW_OUTPUT="0",
            TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
            TUNE_DISABLE_SIGINT_HANDLER="1",
        ):
            yield
    finally:
        tunes_state.setLevel(level)
        tunes_errors.removeFilter(_is_no_lost_worker)


def _is_no_lost_worker(record: logging.LogRecord) -> bool:
    """Whether it is worth Tune's traceback; the recorder has a line for a lost worker."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return not isinstance(error, ray.exceptions.RayActorError)


def _tuner(
    task: ray.ObjectRef[TrainingTask],
    settings: SearchSettings,
    recorder: Recorder,
    executor: RayExecutor,
    folder: Path,
    num_samples: int,
    seconds: float,
) -> tune.Tuner:
    trainable = tune.with_parameters(SelectionTrial, task=task, versions=library_versions())
    searcher = new_searcher(settings, recorder.store)
    first = first_params(recorder.store.snapshot(), settings.first)
    trainable.__qualname__ = SelectionTrial.__name__  # what the Ray dashboard shows
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=AsManyAsThereIsRoomFor(searcher, executor, num_samples),
            scheduler=StoppingRule(settings, first, executor),
            num_samples=num_samples,
            time_budget_s=seconds if seconds < math.inf else None,
            reuse_actors=True,
            # Not the method, which Tune would copy with its recorder.
            trial_name_creator=lambda trial: recorder.name(trial),
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[recorder, Silence(recorder, executor)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )


class StoppingRule(AsyncHyperBandScheduler):
    """ASHA, which may stop a trial after a third of its epochs; the next rung is the last epoch.

    The first trial is never stopped, so that no search is worse on valid than its first point.

    Args:
        settings: has the rung and the number of epochs.
        first: the parameters of the trial that is never stopped.
        executor: has the room for a trial's worker.
    """

    def __init__(
        self, settings: SearchSettings, first: SelectionParams, executor: RayExecutor
    ) -> None:
        self._first, self._executor = first.as_dict(), executor
        max_t = max(settings.max_epochs, 2)
        super().__init__(max_t=max_t, grace_period=settings.rung, reduction_factor=3)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Keep the trial from nodes that cannot work."""
        pool = self._executor.pool
        bundles = [{"CPU": pool.num_cpus, "GPU": pool.num_gpus}]
        nodes: dict[str, Any] = (
            {"bundle_label_selector": [pool.label_selector]} if pool.label_selector else {}
        )
        trial.update_resources(tune.PlacementGroupFactory(bundles, **nodes))
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Let ASHA decide for every trial but the first, which continues."""
        action = super().on_trial_result(tune_controller, trial, result)
        return self.CONTINUE if trial.config == self._first else action


class Searcher(OptunaSearch):
    """Tune's Optuna searcher; a trial that diverged is FAIL, as in the study of a later launch."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Add the result of a trial to the study."""
        diverged = result is not None and isinstance(result.get(OUTCOME), Failed)
        super().on_trial_complete(trial_id, None if diverged else result, error or diverged)


class AsManyAsThereIsRoomFor(ConcurrencyLimiter):
    """Proposes trials while there is room for another worker, on nodes that have joined too."""

    def __init__(self, searcher: Searcher, executor: RayExecutor, num_samples: int) -> None:
        self._executor, self._left = executor, num_samples
        super().__init__(searcher, min(executor.current_pool(num_samples).size, num_samples))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next point, or None where there is no room."""
        self.max_concurrent = self._executor.current_pool(self._left).size
        point: dict[str, Any] | None = super().suggest(trial_id)
        if point is not None:
            self._left -= 1
        return point


def new_searcher(settings: SearchSettings, store: TrialStore) -> Searcher:
    """A searcher whose study holds the finished trials and begins with the interrupted ones."""
    searcher = Searcher(
        settings.space,
        metric=METRIC,
        mode="max",
        points_to_evaluate=[record.params.as_dict() for record in store.running()],
        sampler=new_sampler(settings, store),
    )
    for record in store.finished():
        failed = record.state == "FAILED"
        value = math.nan if failed else record.valid_accuracy
        searcher.add_evaluated_point(record.params.as_dict(), value, error=failed)
    return searcher


class SelectionTrial(tune.Trainable):
    """One trial: each Tune step is one epoch of the selection net."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], task: TrainingTask, versions: dict[str, str]
    ) -> None:
        """Begin the first trial of this actor, which has the driver's versions."""
        require_versions(versions)
        set_up_worker()
        self.device = worker_device()
        self.task = task
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process, which saves the imports."""
        self.params = SelectionParams.from_dict(new_config)
        self.selection: SelectionTraining | None = None  # built in a step: Tune retries only those
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; a training that diverges ends with the lowest accuracy."""
        if self.selection is None:
            self.selection = self.task.begin(self.params, self.device)
        try:
            result = self.selection.run_epoch()
        except DivergedError as error:  # if it were raised, Tune would retry the trial
            return {METRIC: 0.0, OUTCOME: Failed(str(error)), "done": True}
        # The Ray dashboard shows what is printed here.
        accuracy = result.valid_accuracy
        print(f"{self.trial_name}: epoch {result.epoch}, valid {accuracy:.4f}", flush=True)
        last = result.epoch >= self.task.experiment.selector_recipe.epochs
        return {
            METRIC: accuracy,
            OUTCOME: result,
            WORKER: describe_worker(),
            SAMPLES: len(self.task.train.labels_S),
            "done": last,
        }
