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
from distcel.core.priced_ensemble import PricedEnsemble, trained_priced_ensemble
from distcel.data.splits import Split
from distcel.execute.jobs import Executor
from distcel.experiment.errors import RunFailedError
from distcel.experiment.prices import PriceWeight
from distcel.experiment.types import SelectionParams
from distcel.search.kept import train_missing
from distcel.search.trials import TrialRecord, TrialStore, best_trial
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.front import FrontPoint, weights_of
from distcel.train.loop import to_tensor
from distcel.train.selection import (
    TrainingTask,
    best_k,
    choose_price_weight,
    predict_split,
    split_accuracy_over_k,
    split_front,
)

_BATCH = 256  # number of images in memory at once
_NOT_CHOSEN = PriceWeight(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class SmartRule:
    """The smart ensemble at these parameters, with its last epoch's weights.

    Attributes:
        params: the trial's point.
    """

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
        return predict_split(self.ensemble(trained, task), split)

    @torch.inference_mode()
    def embed(
        self, trained: TrainedNetwork, task: TrainingTask, split: Split
    ) -> NDArray[np.float32]:
        """The selection net's embedding of every image, shape (S, D)."""
        net = self.ensemble(trained, task).selection_net.eval()
        assert isinstance(net, Network), "a plan builds no other"
        return _in_batches(net.embed, split)

    @torch.inference_mode()
    def scores(
        self, trained: TrainedNetwork, task: TrainingTask, split: Split
    ) -> NDArray[np.float32]:
        """The scores of the learners for every image (Eqs. 8-9), shape (S, N)."""
        ensemble = self.ensemble(trained, task).eval()
        assert isinstance(ensemble, SmartEnsemble), "with prices there are scores for each lambda"
        return _in_batches(ensemble.scores, split)

    def ensemble(
        self, trained: TrainedNetwork, task: TrainingTask
    ) -> SmartEnsemble | PricedEnsemble:
        """The ensemble with the trained weights, on the CPU."""
        if task.prices is not None:
            return trained_priced(trained, task, self.params)
        _, n_learners, n_classes = task.train.probs_SNC.shape
        return trained_ensemble(task.plan, n_learners, n_classes, self.params, trained.state_dict)


@dataclass(frozen=True)
class PricedRule(SmartRule):
    """The priced ensemble, trained on train and valid once the parameters are chosen on valid.

    Attributes:
        price_weight: lambda in predictions; 0 until it is chosen.
    """

    price_weight: PriceWeight = _NOT_CHOSEN

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train as `SmartRule.train`, on both splits."""
        yield from super().train(task.with_valid_in_train(), device, state)

    def ensemble(self, trained: TrainedNetwork, task: TrainingTask) -> PricedEnsemble:
        """The ensemble with the trained weights at its weight of price, on the CPU."""
        ensemble = trained_priced(trained, task, self.params)
        ensemble.price_weight = self.price_weight
        return ensemble


def trained_priced(
    trained: TrainedNetwork, task: TrainingTask, params: SelectionParams
) -> PricedEnsemble:
    """The priced ensemble with these weights, on the CPU, at the weight of price 0."""
    assert task.prices is not None, "the learners have prices"
    n_classes = task.train.probs_SNC.shape[2]
    return trained_priced_ensemble(task.plan, params, task.prices, n_classes, trained.state_dict)


def _in_batches(measure: Callable[[Tensor], Tensor], split: Split) -> NDArray[np.float32]:
    images_SCHW = to_tensor(split.images_SCHW, torch.device("cpu"))
    return torch.cat([measure(batch) for batch in images_SCHW.split(_BATCH)]).numpy()


@dataclass(frozen=True)
class ChosenEnsemble:
    """The smart ensemble that is chosen on valid.

    Attributes:
        rule: its parameters.
        network: its trained network.
        on_valid: the network whose predictions of valid are those of samples that it has not seen,
            where `network` is trained on valid as well.
        front: that network on valid at each weight of price.
    """

    rule: SmartRule
    network: TrainedNetwork
    on_valid: TrainedNetwork | None = None
    front: tuple[FrontPoint, ...] = ()


def choose_price(
    shared: Any, task: TrainingTask, found: ChosenEnsemble, executor: Executor, folder: Path
) -> ChosenEnsemble:
    """Train on train and valid with all that is chosen, and set the weight of price.

    Args:
        shared: the task, as `executor.share` returned it.
        task: the task.
        found: the smart ensemble that is trained on train alone.
        executor: runs the training.
        folder: where the network is kept.

    Raises:
        RunFailedError: workers were lost repeatedly, or the training diverged.
    """
    params, title = found.rule.params, "refit on train and valid"
    whole = PricedRule(params)
    network = train_missing({title: whole}, shared, executor, folder)[title]
    if not isinstance(network, TrainedNetwork):
        raise RunFailedError(f"{network.reason}: give --fix lr=NUMBER with a smaller one")
    assert task.prices is not None, "the learners have prices"
    seen = trained_priced(found.network, task, params)
    points = split_front(seen, task.valid, weights_of(task.prices))
    weight = choose_price_weight(trained_priced(network, task, params), task)
    rule = replace(whole, price_weight=weight)
    return ChosenEnsemble(rule, network, on_valid=found.network, front=tuple(points))


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
        found = train_missing(rules, shared, executor, folder, stage="refit")[title]
        if isinstance(found, TrainedNetwork):
            return found, replace(best, epochs=found.epochs, worker=found.worker)
        store.fail(best.number, found.reason)
