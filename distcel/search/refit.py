"""Trains smart ensembles at given parameters for all their epochs: the refit of the best trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from distcel.core.ensemble import DeviceSplit, trained_ensemble
from distcel.execute.pool import WorkerPool
from distcel.experiment.types import SelectionParams
from distcel.rules.consensus import class_probabilities
from distcel.rules.kept_training import train_missing
from distcel.search.selection import SelectionTask, TaskRef
from distcel.search.trials import TrialStore, best_trial
from distcel.train.cache import CachedSplit
from distcel.train.loop import DivergedError
from distcel.train.trained_network import TrainedNetwork
from distcel.train.trial_record import TrialRecord


@dataclass(frozen=True)
class SmartRule:
    """The smart ensemble at these parameters, with its last epoch's weights."""

    params: SelectionParams

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train for all epochs of the selection net; it keeps no state, so none is taken.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        yield task.begin(self.params, device).run()

    def predict(self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit) -> Tensor:
        """Class probabilities (Eq. 11), shape (S, C)."""
        _, n_learners, n_classes = split.probs_SNC.shape
        smart = trained_ensemble(task.plan, n_learners, n_classes, self.params, trained.state_dict)
        return class_probabilities(DeviceSplit(split, torch.device("cpu")).logits(smart))


Refitted = tuple[TrainedNetwork, TrialRecord]


def refit(task: TaskRef, best: TrialRecord, pool: WorkerPool, folder: Path) -> Refitted:
    """Train the best trial's smart ensemble for all its epochs, on a worker.

    Args:
        task: what it is trained on, in Ray's object store.
        best: the trial.
        pool: the worker's resources.
        folder: where the result is kept, for a later launch.

    Returns:
        TrainedNetwork, TrialRecord: its weights, and the trial with all its epochs.

    Raises:
        DivergedError: it diverges, in an epoch that the trial was stopped before.
        RunFailedError: workers died over it again and again.
    """
    title = f"refit of trial {best.number}"
    found = train_missing({title: SmartRule(best.params)}, task, pool, folder)[title]
    if isinstance(found, DivergedError):
        raise found
    return found, replace(best, epochs=found.epochs)


def refit_best(task: TaskRef, store: TrialStore, pool: WorkerPool, folder: Path) -> Refitted:
    """The best trial that survives all its epochs: ASHA may have stopped it before it diverged.

    Raises:
        NoCompleteTrialError: no trial is complete.
        RunFailedError: workers died over one again and again.
    """
    while True:
        best = best_trial(store.snapshot())
        try:
            return refit(task, best, pool, folder)
        except DivergedError as error:
            store.keep(replace(best, state="FAILED", reason=str(error)))
