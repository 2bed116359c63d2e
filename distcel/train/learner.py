"""Trains one specialised base learner, and says by which key its results are cached."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Splits
from distcel.data.subsets import specialised_indices
from distcel.experiment.types import Experiment, LearnerSpec, SplitName
from distcel.storage.files import content_key
from distcel.train.cache import TrainedLearner
from distcel.train.loop import Training, augment, predict, to_tensor
from distcel.train.training_state import load_training, save_training

# Part of every base learner's key. Raise it with every change that gives other numbers from equal
# data, recipe, seed and libraries: of the networks, the training loop, a learner's own samples, or
# the state that its training goes on from. tests/train/test_golden.py fails where it was forgotten.
CACHE_VERSION = 1


@dataclass(frozen=True)
class LearnerData:
    """What every base learner is trained on; arrays as in Splits."""

    plan: NetworkPlan
    images: Mapping[SplitName, NDArray[np.uint8]]
    train_labels: NDArray[np.int64]
    n_classes: int
    predicted: tuple[SplitName, ...]


@dataclass(frozen=True)
class Progress:
    """One epoch of one base learner is done; `state` is what it can be resumed from, if any."""

    epoch: int
    train_loss: float
    state: bytes | None = None


def learner_key(
    experiment: Experiment, spec: LearnerSpec, splits: Splits, plan: NetworkPlan, seed: int
) -> str:
    """The digest of all that determines a base learner: data, recipe, seed and versions."""
    return content_key(
        {
            "splits": splits.digest,
            "spec": asdict(spec),
            "share": experiment.specialty_share,
            "plan": plan.description(),
            "recipe": asdict(experiment.learner_recipe),
            "seed": seed,
            "versions": [torch.__version__, version("torchvision"), np.__version__],
            "cache_version": CACHE_VERSION,
        }
    )


def train_learner(
    spec: LearnerSpec,
    experiment: Experiment,
    data: LearnerData,
    seed: int,
    device: torch.device,
    state: bytes | None = None,
    seconds_between_states: float = math.inf,
) -> Iterator[Progress | TrainedLearner]:
    """Train one base learner; yields its progress after every epoch, its results at the end.

    Args:
        spec: the classes that it specialises in.
        experiment: share, architecture and recipe.
        data: the images, and the labels of the train split.
        seed: together with the learner's name, of every random number.
        device: that it is trained on.
        state: of an earlier `Progress` of the same learner, to go on from there.
        seconds_between_states: at least this long between two `Progress` that bring a state.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    seed = int(content_key([seed, spec.name])[:15], 16)
    recipe = experiment.learner_recipe
    images = {name: to_tensor(array, device) for name, array in data.images.items()}
    labels_S = to_tensor(data.train_labels, device)
    train_images = images["train"]
    network = data.plan.build(data.n_classes, seed).to(device)
    own_S = specialised_indices(data.train_labels, spec, experiment.specialty_share, seed)

    def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
        pictures = augment(train_images[batch_B], recipe.augmentation, generator)
        return cross_entropy(network(pictures), labels_S[batch_B])

    run = Training(network, batch_loss, torch.from_numpy(own_S).to(device), recipe, seed)
    if state is not None:
        load_training(run, state)
    saved = time.monotonic()
    while run.epoch < recipe.epochs:
        loss = run.run_epoch()
        due = time.monotonic() - saved >= seconds_between_states and run.epoch < recipe.epochs
        yield Progress(run.epoch, loss, save_training(run) if due else None)
        saved = time.monotonic() if due else saved
    probs = {
        name: predict(network, images[name]).softmax(-1).cpu().numpy() for name in data.predicted
    }
    weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    yield TrainedLearner(probs, weights, run.seconds)
