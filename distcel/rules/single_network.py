"""A single network of the selection net's architecture that classifies the images by itself.

The length of a training is measured in sample passes: forward and backward passes of one image
through the architecture that all networks of a run share. Unlike seconds, they are the same on
every machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split
from distcel.execute.jobs import Progress
from distcel.experiment.types import Experiment, Recipe
from distcel.train.checkpoint import EpochResult, TrainedNetwork, load_training, save_training
from distcel.train.estimate import SampleCounts
from distcel.train.loop import Training, augment, predict, to_tensor
from distcel.train.selection import TrainingTask, measured_epoch

SECONDS_BETWEEN_STATES = 30.0  # a lost worker loses at most these; keeping a state takes 0.5 s


def ensemble_passes(experiment: Experiment, counts: SampleCounts) -> int:
    """The sample passes of the whole ensemble: all base learners and the selection net's refit.

    sum_i S_i E + S E', with S_i the size of learner i's specialised subset, E the epochs of a base
    learner, S the train split's size and E' the epochs of the selection net. The sum includes
    the copies of `crossfit`. It does not include the trials of the search, each of which trains a
    selection net.
    """
    learners = (counts.base_learners + counts.copies) * experiment.learner_recipe.epochs
    return learners + counts.selection_net * experiment.selector_recipe.epochs


def epochs_of(passes: int, n_samples: int) -> int:
    """The smallest number of epochs of `n_samples` that has at least so many sample passes."""
    return -(-passes // n_samples)


class SingleNetworkTraining:
    """Trains one network on images and labels, an epoch a call, and keeps the best epoch's weights.

    Args:
        plan: how the network is built.
        train: the split it is trained on; the base learners' predictions are not used.
        valid: the split that decides on the best epoch.
        recipe: optimizer, schedule, batch size, epochs and augmentation.
        seed: seeds the initial weights, the order of the samples and their augmentation.
        device: the device that it is trained on.

    Attributes:
        best: all epochs so far, and the weights after the epoch with the highest accuracy on valid,
            the earliest of equals; None before the first epoch.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        train: Split,
        valid: Split,
        recipe: Recipe,
        seed: int,
        device: torch.device,
    ) -> None:
        network = plan.build(train.probs_SNC.shape[2], seed, recipe.in_bfloat16).to(device)
        images, labels_S = (to_tensor(x, device) for x in (train.images_SCHW, train.labels_S))
        self.valid_images = to_tensor(valid.images_SCHW, device)
        self.valid_labels_S = to_tensor(valid.labels_S, device)
        self.best: TrainedNetwork | None = None

        def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
            pictures = augment(images[batch_B], recipe.augmentation, generator)
            return cross_entropy(network(pictures), labels_S[batch_B])

        indices_S = torch.arange(len(labels_S), device=device)
        self.training = Training(network, batch_loss, indices_S, recipe, seed)

    def run_epoch(self) -> EpochResult:
        """Train for one epoch and measure the valid split.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        network, images = self.training.network, self.valid_images
        result = measured_epoch(
            self.training, lambda: predict(network, images), self.valid_labels_S
        )
        self._keep_best(result)
        return result

    def _keep_best(self, result: EpochResult) -> None:
        best = self.best
        if best is None or result.valid_accuracy > best.valid_accuracy:
            state = self.training.network.state_dict()
            weights = {name: value.cpu().numpy().copy() for name, value in state.items()}
            best = TrainedNetwork(weights, result.valid_accuracy, best.epochs if best else ())
        self.best = replace(best, epochs=(*best.epochs, result))

    def save(self) -> bytes:
        """The state with which `load` continues as if without a break; after the first epoch."""
        assert self.best is not None, "an epoch is done"
        parts = {"training": save_training(self.training), "best": self.best.to_bytes()}
        return save({name: np.frombuffer(part, np.uint8) for name, part in parts.items()})

    def load(self, state: bytes) -> None:
        """Continue from the saved state of a training with the same arguments."""
        parts = {name: part.tobytes() for name, part in load(state).items()}
        load_training(self.training, parts["training"])
        self.best = TrainedNetwork.from_bytes(parts["best"])


@dataclass(frozen=True)
class SingleNetwork:
    """The rule that predicts with this network alone, trained for `epochs` at `lr`."""

    epochs: int
    lr: float

    def begin(self, task: TrainingTask, device: torch.device) -> SingleNetworkTraining:
        """A fresh training by the selection net's recipe with this rule's lr and epochs.

        The schedule is stretched over all epochs; with `step`, lr falls by the same total factor.
        """
        recipe = task.experiment.selector_recipe
        gamma = recipe.gamma ** (recipe.epochs / self.epochs)
        recipe = replace(recipe, lr=self.lr, epochs=self.epochs, gamma=gamma)
        return SingleNetworkTraining(task.plan, task.train, task.valid, recipe, task.seed, device)

    def train(
        self,
        task: TrainingTask,
        device: torch.device,
        state: bytes | None,
        seconds_between_states: float = SECONDS_BETWEEN_STATES,
    ) -> Iterator[Progress | TrainedNetwork]:
        """Train; yields progress with a state at intervals and, last, the best epoch's network.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        run = self.begin(task, device)
        if state is not None:
            run.load(state)
        saved = time.monotonic()
        while run.training.epoch < self.epochs:
            result = run.run_epoch()
            due = time.monotonic() - saved >= seconds_between_states
            if due and result.epoch < self.epochs:
                yield Progress(result.epoch, result.train_loss, run.save())
                saved = time.monotonic()
        assert run.best is not None, "there is at least one epoch"
        yield run.best

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities, shape (S, C); the base learners' predictions are not used."""
        network = task.plan.build(split.probs_SNC.shape[2], seed=0)
        network.load_state_dict(trained.state_dict)
        images = to_tensor(split.images_SCHW, torch.device("cpu"))
        return predict(network, images).softmax(-1)
