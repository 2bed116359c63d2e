"""What all trainings have in common, and how a selection net is trained (Algorithm 1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distcel.core.ensemble import (
    AnyKEnsemble,
    SmartEnsemble,
    answered,
    class_probabilities,
    smart_ensemble,
    sums_over_k,
)
from distcel.core.networks import NetworkPlan
from distcel.core.priced_ensemble import PricedEnsemble, n_outputs, priced_ensemble
from distcel.data.splits import Split, Splits, joined
from distcel.experiment.errors import DivergedError
from distcel.experiment.prices import Prices, PriceWeight
from distcel.experiment.types import Experiment, Recipe, SelectionParams
from distcel.train.checkpoint import EpochResult, TrainedNetwork
from distcel.train.front import (
    FrontPoint,
    measure_front,
    weight_within,
)
from distcel.train.loop import Training, accuracy, augment, predict, to_tensor
from distcel.train.subset_vote import fit_vote

# Part of every search's key. Raise it with any change that gives a trial other numbers from equal
# predictions, recipe, point, seed and torch: a change of the knapsack layer, the votes, the smart
# ensemble, the training loop, the folds' predictions or the scheduler that stops trials.
# tests/train/test_golden.py fails if it was forgotten.
CACHE_VERSION = 2
_BATCH = 256  # number of samples whose votes at every k are in memory at once


@dataclass(frozen=True)
class TrainingTask:
    """The data and settings that many trainings share, put into Ray's object store once.

    Attributes:
        experiment: the recipes, and the base learners' specialty share.
        plan: builds the networks.
        splits: `train` and the other splits of the trainings. Base learners predict all of them,
            test included. Trials and trained rules have train and valid alone, with the base
            learners' predictions.
        seed: seeds every random number, for a base learner together with its name.
        prices: the prices of the learners' answers; None where k learners are selected whatever
            they cost.
    """

    experiment: Experiment
    plan: NetworkPlan
    splits: Splits
    seed: int
    prices: Prices | None = None

    @property
    def train(self) -> Split:
        """The split to train on."""
        return self.splits["train"]

    @property
    def valid(self) -> Split:
        """The split that is measured after every epoch of a selection net."""
        return self.splits["valid"]

    def with_valid_in_train(self) -> TrainingTask:
        """The task whose train has the samples of valid as well."""
        by_name = {**self.splits.by_name, "train": joined(self.train, self.valid)}
        return replace(self, splits=replace(self.splits, by_name=by_name))

    def selection_net(self, device: torch.device) -> nn.Module:
        """An untrained selection net; the same seed gives the same weights."""
        n_learners, recipe = self.train.probs_SNC.shape[1], self.experiment.selector_recipe
        count = n_learners if self.prices is None else n_outputs(self.prices)
        return self.plan.build(count, self.seed, recipe.in_bfloat16).to(device)

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """The training of a new smart ensemble; the same seed gives the same initial weights."""
        _, n_learners, n_classes = self.train.probs_SNC.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        net = self.selection_net(device)
        if self.prices is None:
            ensemble = smart_ensemble(net, params, n_learners, n_classes, generator, self.seed)
            return self.begin_with(ensemble.to(device), params.lr, device)
        priced = priced_ensemble(net, params, self.prices, n_classes, generator).to(device)
        _, probs_SNC, labels_S = _tensors(self.train, device)
        fit_vote(priced.vote, probs_SNC, labels_S, self.prices.n_always, self.seed)
        return self.begin_with(priced, params.lr, device)

    def begin_with(self, ensemble: nn.Module, lr: float, device: torch.device) -> SelectionTraining:
        """The training of any ensemble, by the selection net's recipe."""
        recipe = replace(self.experiment.selector_recipe, lr=lr)
        return SelectionTraining(ensemble, self.train, self.valid, recipe, self.seed, device)


class SelectionTraining:
    """Trains an ensemble's selection net on cached predictions (Algorithm 1), an epoch a call.

    Args:
        ensemble: maps images and the learners' outputs (B, N, C) to logits (B, C); on `device`.
            All of its parameters are trained together with its selection net.
        train: the split it is trained on; its labels give the cross entropy of Eq. 14.
        valid: the split that is measured after every epoch.
        recipe: optimizer, schedule, batch size, epochs and augmentation.
        seed: seeds the order of the samples and their augmentation.
        device: the device of the arrays.
    """

    def __init__(
        self,
        ensemble: nn.Module,
        train: Split,
        valid: Split,
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        self.ensemble, self.n_epochs = ensemble, recipe.epochs
        *self.valid_inputs, self.valid_labels_S = _tensors(valid, device)
        images_SCHW, probs_SNC, labels_S = _tensors(train, device)

        def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
            # Augmentation changes the image alone: the label and the learners' outputs are kept.
            images = augment(images_SCHW[batch_B], recipe.augmentation, generator)
            # Not self.ensemble: such a cycle keeps the GPU's memory until Python collects it.
            if isinstance(ensemble, PricedEnsemble):
                return ensemble.loss(images, probs_SNC[batch_B], labels_S[batch_B], generator)
            return cross_entropy(ensemble(images, probs_SNC[batch_B]), labels_S[batch_B])

        indices_S = torch.arange(len(labels_S), device=device)
        self.training = Training(ensemble, batch_loss, indices_S, recipe, seed)

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and measure the valid split.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        return measured_epoch(self.training, self._valid_logits, self.valid_labels_S)

    def _valid_logits(self) -> Tensor:
        """The ensemble's logits on valid, at the best k or weight of price of a net for all."""
        if isinstance(self.ensemble, AnyKEnsemble):
            images_SCHW, probs_SNC = self.valid_inputs
            over_k = accuracy_over_k(self.ensemble, images_SCHW, probs_SNC, self.valid_labels_S)
            self.ensemble.layer.k = best_k(over_k)
        if isinstance(self.ensemble, PricedEnsemble):
            images_SCHW, probs_SNC = self.valid_inputs
            self.ensemble.price_weight = weight_within(self.ensemble, images_SCHW, probs_SNC)
        return predict(self.ensemble, *self.valid_inputs)

    def run(self) -> TrainedNetwork:
        """Train for all epochs; the weights are those after the last epoch.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        epochs = tuple(self.run_epoch() for _ in range(self.n_epochs))
        state_dict = self.ensemble.state_dict()
        weights = {name: value.cpu().numpy() for name, value in state_dict.items()}
        return TrainedNetwork(weights, epochs[-1].valid_accuracy, epochs)


def measured_epoch(
    training: Training, valid_logits: Callable[[], Tensor], valid_labels_S: Tensor
) -> EpochResult:
    """Train for one epoch and measure the valid split; `valid_logits` gives its logits (S, C).

    Raises:
        DivergedError: a loss became NaN or infinite.
    """
    started = time.monotonic()
    train_loss = training.run_epoch()
    logits_SC = valid_logits()
    valid_loss = float(cross_entropy(logits_SC, valid_labels_S))
    if not math.isfinite(valid_loss):
        raise DivergedError(f"the validation loss became {valid_loss}: try a smaller lr")
    valid_accuracy = accuracy(logits_SC, valid_labels_S)
    seconds, now_ms = time.monotonic() - started, int(time.time() * 1000)
    return EpochResult(training.epoch, train_loss, valid_loss, valid_accuracy, seconds, now_ms)


def accuracy_over_k(
    ensemble: SmartEnsemble, images_SCHW: Tensor, probs_SNC: Tensor, labels_S: Tensor
) -> list[float]:
    """The accuracy of the summed vote of k learners, a fraction, for k = 1..N."""
    scores_SN = predict(ensemble.selection_net, images_SCHW)
    scores_SN = scores_SN.masked_fill(~answered(probs_SNC), -math.inf)
    n_correct_N = torch.zeros(scores_SN.shape[1], dtype=torch.int64, device=scores_SN.device)
    batches = (values.split(_BATCH) for values in (scores_SN, probs_SNC, labels_S))
    for scores_BN, probs_BNC, labels_B in zip(*batches, strict=True):
        classes_BN = sums_over_k(scores_BN, probs_BNC).argmax(-1)
        n_correct_N += (classes_BN == labels_B[:, None]).sum(0)
    return (n_correct_N.double() / len(labels_S)).tolist()


def best_k(accuracy_by_k: Sequence[float]) -> int:
    """The k with the highest accuracy, the smallest of equals."""
    return 1 + int(np.argmax(accuracy_by_k))


def split_accuracy_over_k(ensemble: SmartEnsemble, split: Split) -> list[float]:
    """Compute `accuracy_over_k` of a split, on the CPU."""
    return accuracy_over_k(ensemble, *_tensors(split, torch.device("cpu")))


def choose_price_weight(ensemble: PricedEnsemble, task: TrainingTask) -> PriceWeight:
    """The weight of price at which a sample of train and valid costs what it may, on the CPU.

    It needs no label, so that the ensemble may have been trained on both.
    """
    inputs_S, probs_SNC, _ = _tensors(task.with_valid_in_train().train, torch.device("cpu"))
    return weight_within(ensemble, inputs_S, probs_SNC)


def split_front(
    ensemble: PricedEnsemble, split: Split, weights: Sequence[float]
) -> list[FrontPoint]:
    """Compute `measure_front` of a split, on the CPU."""
    return measure_front(ensemble, *_tensors(split, torch.device("cpu")), weights)


def predict_split(ensemble: nn.Module, split: Split) -> Tensor:
    """An ensemble's class probabilities (Eq. 11) for every sample, shape (S, C), on the CPU."""
    images_SCHW, probs_SNC, _ = _tensors(split, torch.device("cpu"))
    return class_probabilities(predict(ensemble, images_SCHW, probs_SNC))


def _tensors(split: Split, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images, base learners' predictions and labels."""
    return (
        to_tensor(split.images_SCHW, device),
        to_tensor(split.probs_SNC, device),
        to_tensor(split.labels_S, device),
    )
