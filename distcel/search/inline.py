"""Runs the trials of a search one after another in this process, without Ray.

Points and stopped trials are the same as those of Ray Tune with one worker.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from distcel.execute.inline import InlineExecutor, inline_device
from distcel.execute.jobs import Failed
from distcel.execute.process import worker_settings
from distcel.experiment.errors import DivergedError
from distcel.experiment.types import SelectionParams
from distcel.search.search import SearchSettings, new_sampler
from distcel.search.study import study_of
from distcel.search.trials import TrialStore, first_params
from distcel.storage.provenance import describe_worker
from distcel.train.selection import TrainingTask

_STOPPED_SHARE = 2 / 3  # share of trials stopped at the rung: ASHA with a reduction factor of 3


def run_trials(
    task: TrainingTask,
    settings: SearchSettings,
    store: TrialStore,
    executor: InlineExecutor,
    folder: Path,
    n_trials: int,
    seconds: float,
) -> bool:
    """Run `n_trials` trials, interrupted ones first, or as many as end within `seconds`.

    Returns:
        bool: False, as no worker can be lost here.
    """
    del executor, folder
    deadline = time.monotonic() + seconds
    study = new_study(settings, store)
    numbers = [record.number for record in store.running()]
    numbers += range(store.next_number(), store.next_number() + n_trials - len(numbers))
    at_rung: list[float] = []
    with worker_settings():
        for number in numbers[:n_trials]:
            trial = study.ask(settings.space)
            store.begin(number, SelectionParams.from_dict(trial.params))
            failed = _run_trial(number, task, settings, store, at_rung, deadline)
            if failed is not None:
                store.fail(number, failed.reason)
                study.tell(trial, state=TrialState.FAIL)
            elif time.monotonic() > deadline:
                break
            else:
                store.complete(number)
                study.tell(trial, store[number].valid_accuracy)
    return False


def new_study(settings: SearchSettings, store: TrialStore) -> optuna.Study:
    """A study that holds the finished trials and begins with the interrupted ones."""
    finished = [record.facts() for record in store.finished()]
    study = study_of(finished, settings.space, new_sampler(settings, store))
    for record in store.running():
        study.enqueue_trial(record.params.as_dict())
    return study


def _run_trial(
    number: int,
    task: TrainingTask,
    settings: SearchSettings,
    store: TrialStore,
    at_rung: list[float],
    deadline: float,
) -> Failed | None:
    """Train until the last epoch or the deadline, or stop at the rung if the accuracy is low."""
    params = store[number].params
    is_first = params == first_params(store.snapshot(), settings.first)
    training = task.begin(params, inline_device())
    try:
        for epoch in range(1, settings.max_epochs + 1):
            result = training.run_epoch()
            store.add_epoch(number, result, describe_worker(), len(task.train.labels_S))
            if epoch == settings.rung and epoch < settings.max_epochs:
                cutoff = np.percentile(at_rung, 100 * _STOPPED_SHARE) if at_rung else 0.0
                at_rung.append(result.valid_accuracy)
                if result.valid_accuracy < cutoff and not is_first:
                    break
            if time.monotonic() > deadline:
                break
    except DivergedError as error:
        return Failed(str(error))
    return None
