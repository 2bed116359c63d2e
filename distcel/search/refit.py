"""Trains smart ensembles at given parameters for all their epochs: the refit of the best trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distcel.core.ensemble import SmartEnsemble, trained_ensemble
from distcel.core.networks import Network
from distcel.data.splits import Split
from distcel.execute.jobs import Executor
from distcel.experiment.types import SelectionParams
from distcel.search.kept import train_missing
from distcel.search.trials import TrialRecord, TrialStore, best_trial
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.loop import to_tensor
from distcel.train.selection import TrainingTask, best_k, predict_split, split_accuracy_over_k

_BATCH = 256  # number of images in memory at once


@dataclass(frozen=True)
class SmartRule:
    """The smart ensemble at these parameters, with its last epoch's weights."""

    params: SelectionParams

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train for all epochs of the selection net, always from the start: no state is kept.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        yield task.begin(self.params, device).run()

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities (Eq. 11), shape (S, C)."""
        return predict_split(self._ensemble(trained, task), split)

    @torch.inference_mode()
    def embed(
        self, trained: TrainedNetwork, task: TrainingTask, split: Split
    ) -> NDArray[np.float32]:
        """The selection net's embedding of every image, shape (S, D)."""
        net = self._ensemble(trained, task).selection_net.eval()
        assert isinstance(net, Network), "a plan builds no other"
        return _in_batches(net.embed, split)

    @torch.inference_mode()
    def scores(
        self, trained: TrainedNetwork, task: TrainingTask, split: Split
    ) -> NDArray[np.float32]:
        """The scores of the learners for every image (Eqs. 8-9), shape (S, N)."""
        return _in_batches(self._ensemble(trained, task).eval().scores, split)

    def _ensemble(self, trained: TrainedNetwork, task: TrainingTask) -> SmartEnsemble:
        _, n_learners, n_classes = task.train.probs_SNC.shape
        return trained_ensemble(task.plan, n_learners, n_classes, self.params, trained.state_dict)


def _in_batches(measure: Callable[[Tensor], Tensor], split: Split) -> NDArray[np.float32]:
    images_SCHW = to_tensor(split.images_SCHW, torch.device("cpu"))
    return torch.cat([measure(batch) for batch in images_SCHW.split(_BATCH)]).numpy()


def choose_k(
    task: TrainingTask, params: SelectionParams, trained: TrainedNetwork
) -> tuple[SelectionParams, list[float]]:
    """Choose on valid the k of a trained smart ensemble.

    Returns:
        SelectionParams: the parameters with the best k, the smallest of equals.
        list: the accuracy on valid for k = 1..N of a network that was trained for every k; empty
        for a network that was trained for one k.
    """
    if params.k != "any":
        return params, []
    _, n_learners, n_classes = task.valid.probs_SNC.shape
    for_any = replace(params, k=1)
    smart = trained_ensemble(task.plan, n_learners, n_classes, for_any, trained.state_dict)
    over_k = split_accuracy_over_k(smart, task.valid)
    return replace(params, k=best_k(over_k)), over_k


Refitted = tuple[TrainedNetwork, TrialRecord]


def refit_best(shared: Any, store: TrialStore, executor: Executor, folder: Path) -> Refitted:
    """Train the best trial's smart ensemble for all its epochs, on a worker.

    A trial that ASHA stopped may diverge in a later epoch. It is then recorded as FAILED, and the
    next best trial is trained.

    Args:
        shared: the TrainingTask, as `executor.share` returned it.
        store: the finished trials.
        executor: runs the training.
        folder: where the result is kept, for a later launch.

    Returns:
        TrainedNetwork, TrialRecord: the network, and the trial with all its epochs.

    Raises:
        NoCompleteTrialError: no trial is complete.
        RunFailedError: workers were lost repeatedly.
    """
    while True:
        best = best_trial(store.snapshot())
        title = f"refit of trial {best.number}"
        rules = {title: SmartRule(best.params)}
        found = train_missing(rules, shared, executor, folder)[title]
        if isinstance(found, TrainedNetwork):
            return found, replace(best, epochs=found.epochs, worker=found.worker)
        store.fail(best.number, found.reason)
