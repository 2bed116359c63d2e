"""The smart ensemble (Eqs. 8-14) and the training of its selection net."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from distcel.core.knapsack import KnapsackLayer
from distcel.core.networks import NetworkPlan
from distcel.core.votes import LearnedVote, SummedVote, build_vote
from distcel.experiment.types import Recipe, SelectionParams
from distcel.train.cache import CachedSplit
from distcel.train.loop import DivergedError, Training, accuracy, augment, to_tensor
from distcel.train.trained_network import TrainedNetwork
from distcel.train.trial_record import EpochResult


class SmartEnsemble(nn.Module):
    """Selects k of N base learners for each image and lets them vote.

    The selection net scores the learners (Eq. 8), the scores are divided by their L2 norm (Eq. 9),
    the knapsack layer turns them into a mask b (Eq. 10), and the prediction is the softmax of
    the vote: in the paper sum_i b_i y_i (Eqs. 11-12), y_i being learner i's own softmax output.
    """

    def __init__(
        self, selection_net: nn.Module, layer: KnapsackLayer, vote: SummedVote | LearnedVote
    ) -> None:
        super().__init__()
        self.selection_net, self.layer, self.vote = selection_net, layer, vote

    def select(self, images_BCHW: Tensor) -> Tensor:
        """The 0/1 mask of the learners selected for each image, shape (B, N)."""
        mask_BN: Tensor = self.layer(normalize(self.selection_net(images_BCHW), dim=-1))
        return mask_BN

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C).

        The softmax that follows (Eq. 11) is the one inside the cross entropy; applying it here as
        well would put a floor under the loss.
        """
        logits_BC: Tensor = self.vote(self.select(images_BCHW), probs_BNC)
        return logits_BC


def smart_ensemble(
    selection_net: nn.Module,
    params: SelectionParams,
    n_learners: int,
    n_classes: int,
    generator: torch.Generator | None = None,
) -> SmartEnsemble:
    """The smart ensemble that the parameters ask for, around a selection net with N outputs.

    Args:
        selection_net: scores the learners.
        params: of the layer and the vote.
        n_learners: N.
        n_classes: C.
        generator: of the layer's noise, on the device where it is trained.

    Raises:
        InvalidInputError: k is above N.
    """
    params.require_k_within(n_learners)
    layer = KnapsackLayer(params.k, params.epsilon, params.m, params.gradient, generator)
    return SmartEnsemble(selection_net, layer, build_vote(params, n_learners, n_classes))


def trained_ensemble(
    plan: NetworkPlan,
    n_learners: int,
    n_classes: int,
    params: SelectionParams,
    weights: Mapping[str, Tensor],
) -> SmartEnsemble:
    """The smart ensemble of these weights, on the CPU."""
    net = plan.build(n_learners, seed=0)
    ensemble = smart_ensemble(net, params, n_learners, n_classes)
    ensemble.load_state_dict(weights)
    return ensemble


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
