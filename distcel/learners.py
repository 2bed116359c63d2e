"""Trains one specialised base learner, and says by which key its results are cached."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel import datasets, networks, training
from distcel.datasets import Splits, specialised_indices
from distcel.networks import NetworkPlan
from distcel.predictions import Probabilities, Weights
from distcel.storage import content_key
from distcel.training import Training, augment, predict, to_tensor
from distcel.types import Experiment, LearnerSpec, SplitName


@dataclass(frozen=True)
class LearnerData:
    """What every base learner is trained on; arrays as in Splits."""

    plan: NetworkPlan
    images: Mapping[SplitName, NDArray[np.uint8]]
    train_labels: NDArray[np.int64]
    n_classes: int


@dataclass(frozen=True)
class Progress:
    """One epoch of one base learner is done."""

    epoch: int
    train_loss: float


@dataclass(frozen=True)
class TrainedLearner:
    """A base learner's softmax outputs for every sample, (S, C) a split, and its weights."""

    probs_by_split: dict[SplitName, Probabilities]
    weights: Weights


def learner_key(
    experiment: Experiment, spec: LearnerSpec, splits: Splits, plan: NetworkPlan, seed: int
) -> str:
    """The digest of everything that determines a base learner: data, recipe, seed and code."""
    code = [inspect.getsource(module) for module in (datasets, networks, training)]
    code.append(inspect.getsource(train_learner))
    return content_key(
        {
            "splits": splits.digest,
            "spec": asdict(spec),
            "share": experiment.specialty_share,
            "plan": plan.description(),
            "recipe": asdict(experiment.learner_recipe),
            "seed": seed,
            "torch": torch.__version__,
            "code": content_key(code),
        }
    )


def train_learner(
    spec: LearnerSpec, experiment: Experiment, data: LearnerData, seed: int, device: torch.device
) -> Iterator[Progress | TrainedLearner]:
    """Train one base learner; yields its progress after every epoch, its results at the end.

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
    generator = torch.Generator().manual_seed(seed)

    def batch_loss(batch_B: Tensor) -> Tensor:
        pictures = augment(train_images[batch_B], recipe.augmentation, generator)
        return cross_entropy(network(pictures), labels_S[batch_B])

    run = Training(network, batch_loss, torch.from_numpy(own_S).to(device), recipe, seed)
    for epoch in range(recipe.epochs):
        yield Progress(epoch + 1, run.run_epoch())
    probs = {name: predict(network, x).softmax(-1).cpu().numpy() for name, x in images.items()}
    weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    yield TrainedLearner(probs, weights)
