"""The training of a selection net on cached predictions (Algorithm 1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distcel.core.ensemble import smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.experiment.errors import DivergedError
from distcel.experiment.types import Experiment, Recipe, SelectionParams
from distcel.train.cache import CachedSplit
from distcel.train.checkpoint import EpochResult, TrainedNetwork
from distcel.train.loop import Training, accuracy, augment, to_tensor

# Part of every search's key. Raise it with any change after which a trial comes out with other
# numbers from the same predictions, recipe, point, seed and torch: of the knapsack layer, the
# votes, the smart ensemble, the training loop, the folds' predictions, or of the scheduler that
# stops trials. tests/train/test_golden.py fails where it was forgotten.
CACHE_VERSION = 2


@dataclass(frozen=True)
class SelectionTask:
    """What every trial trains on, put into Ray's object store once."""

    experiment: Experiment
    plan: NetworkPlan
    train: CachedSplit
    valid: CachedSplit
    seed: int

    def selection_net(self, device: torch.device) -> nn.Module:
        """An untrained one; the same seed gives the same."""
        return self.plan.build(self.train.probs_SNC.shape[1], self.seed).to(device)

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """A fresh smart ensemble and its training; the same seed gives the same start."""
        _, n_learners, n_classes = self.train.probs_SNC.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        net = self.selection_net(device)
        ensemble = smart_ensemble(net, params, n_learners, n_classes, generator).to(device)
        return self.begin_with(ensemble, params.lr, device)

    def begin_with(self, ensemble: nn.Module, lr: float, device: torch.device) -> SelectionTraining:
        """The training of any ensemble, by the selection net's recipe."""
        recipe = replace(self.experiment.selector_recipe, lr=lr)
        return SelectionTraining(ensemble, self.train, self.valid, recipe, self.seed, device)


class SelectionTraining:
    """Trains an ensemble's selection net on cached predictions (Algorithm 1), an epoch a call.

    Args:
        ensemble: maps images and the learners' outputs (B, N, C) to logits (B, C); on `device`.
            What else it has to train is trained together with its selection net.
        train: the split it is trained on; its labels give the cross entropy of Eq. 14.
        valid: the split that is reported after every epoch.
        recipe: optimizer, schedule, batch size, epochs and augmentation.
        seed: of the order of the samples and of their augmentation.
        device: that the arrays are put on.
    """

    def __init__(
        self,
        ensemble: nn.Module,
        train: CachedSplit,
        valid: CachedSplit,
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        self.ensemble, self.valid = ensemble, DeviceSplit(valid, device)
        self.n_epochs = recipe.epochs
        data = DeviceSplit(train, device)

        def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
            # A mirrored image wants the same learners: its label and their votes stay.
            images = augment(data.images[batch_B], recipe.augmentation, generator)
            # Not self.ensemble: such a cycle keeps the GPU's memory until Python collects it.
            return cross_entropy(ensemble(images, data.probs[batch_B]), data.labels[batch_B])

        indices_S = torch.arange(len(data.labels), device=device)
        self.training = Training(ensemble, batch_loss, indices_S, recipe, seed)

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and measure the valid split.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        valid = self.valid
        return measured_epoch(self.training, lambda: valid.logits(self.ensemble), valid.labels)

    def run(self) -> TrainedNetwork:
        """Train for all epochs; the weights are the last one's.

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


class DeviceSplit:
    """A CachedSplit's arrays as tensors on a device."""

    def __init__(self, split: CachedSplit, device: torch.device) -> None:
        self.images = to_tensor(split.images_SCHW, device)
        self.labels = to_tensor(split.labels_S, device)
        self.probs = to_tensor(split.probs_SNC, device)

    @torch.inference_mode()
    def logits(self, ensemble: nn.Module, batch_size: int = 256) -> Tensor:
        """The ensemble's logits for every sample, shape (S, C), in evaluation mode."""
        ensemble.eval()
        batches = zip(self.images.split(batch_size), self.probs.split(batch_size), strict=True)
        return torch.cat([ensemble(images, probs) for images, probs in batches])
