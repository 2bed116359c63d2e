"""Frozen records that validate themselves. Nothing heavy is imported here.

Shapes are written as suffixes, with this legend throughout the project:
S samples of a split, B samples of a batch, N base learners, C classes, M noise samples.
Images are uint8 of shape (S, channels, height, width); probabilities are float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from distcel.experiment.architecture import Architecture, NetworkFunction, OwnArchitecture
from distcel.experiment.errors import (
    invalid,
    require,
    require_choice,
    require_count,
    require_fraction,
    require_non_negative,
    require_positive,
)
from distcel.experiment.learner_sets import LearnerSets, checked_sets

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Gradient = Literal["exact", "conditional", "paper"]
VoteName = Literal["sum", "learned"]
Optimizer = Literal["adadelta", "adam", "sgd"]
Schedule = Literal["constant", "step", "one_cycle"]
Augmentation = Literal["none", "flip", "crop", "flip_crop"]
Precision = Literal["auto", "float32", "bfloat16"]
SplitName = Literal["train", "holdout", "valid", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "valid", "test")  # holdout is drawn from train
SelectorSplit = Literal["train", "holdout", "crossfit"]
AnyK = Literal["any"]  # in place of a number: one selection net is trained for every k


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: optimizer, schedule and batches, all by cross entropy.

    `step` multiplies the learning rate by gamma after every epoch (the paper's StepLR has 0.9);
    `one_cycle` is OneCycleLR, one step a batch, with `lr` as its maximum. `precision` is what the
    layers compute in while they are trained, `bfloat16` by torch.autocast; weights, scores, losses
    and predictions are float32 all the same. `auto` is the one of the two that
    `distcel.train.precision` finds faster.
    """

    optimizer: Optimizer
    lr: float
    epochs: int
    batch_size: int
    schedule: Schedule = "constant"
    momentum: float = 0.0
    weight_decay: float = 0.0
    augmentation: Augmentation = "none"
    gamma: float = 0.9
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require_choice("optimizer", self.optimizer, Optimizer)
        require_choice("schedule", self.schedule, Schedule)
        require_choice("augmentation", self.augmentation, Augmentation)
        require_choice("precision", self.precision, Precision)
        require_positive("lr", self.lr)
        require_count("epochs", self.epochs)
        require_count("batch_size", self.batch_size)
        require_non_negative("momentum", self.momentum)
        require_non_negative("weight_decay", self.weight_decay)
        require(self.momentum < 1, "momentum < 1", self.momentum, "give a smaller one")
        allowed = self.optimizer == "sgd" or self.momentum == 0
        rule = f"momentum 0 with optimizer {self.optimizer}"
        require(allowed, rule, self.momentum, "leave it out, or use sgd")
        require_positive("gamma", self.gamma)
        require(self.gamma <= 1, "gamma <= 1", self.gamma, "give a smaller one")

    @property
    def in_bfloat16(self) -> bool:
        """Whether it trains in bfloat16; fails while the precision is `auto`."""
        assert self.precision != "auto", "distcel.train.precision.resolved comes first"
        return self.precision == "bfloat16"

    def description(self) -> dict[str, Any]:
        """Everything that determines a training, as JSON; fails while the precision is `auto`.

        float32 is not named: a recipe that leaves the precision out and one that names float32
        are the same, and so are the keys of run directories from versions without a precision.
        """
        facts = asdict(self)
        if not self.in_bfloat16:
            del facts["precision"]
        return facts


@dataclass(frozen=True)
class SelectionParams:
    """A point of the search space.

    k learners vote; `any` trains one selection net for every k, drawn for each part of a batch, and
    valid then chooses one (`distcel.core.ensemble.AnyKEnsemble`). epsilon is the temperature and m
    the count of noise samples of the smoothed gradient (`exact` draws none and ignores m); lr is
    the selection net's learning rate; vote combines the outputs of the selected: the paper's sum,
    or a learned one (`distcel.core.ensemble`).
    """

    k: int | AnyK
    epsilon: float
    m: int
    lr: float
    gradient: Gradient
    vote: VoteName = "sum"

    def __post_init__(self) -> None:
        if self.k == "any":
            summed = self.vote == "sum"
            require(summed, "the vote sum with k = any", self.vote, "give k a number")
        else:
            require_count("k", self.k)
        require_positive("epsilon", self.epsilon)
        require_count("m", self.m)
        require_positive("lr", self.lr)
        require_choice("gradient", self.gradient, Gradient)
        require_choice("vote", self.vote, VoteName)

    @property
    def chosen_k(self) -> int:
        """The number k.

        Raises:
            InvalidInputError: k is `any`, of which none is chosen yet.
        """
        if self.k == "any":
            raise invalid("a k that is chosen", self.k, "choose one on valid")
        return self.k

    def require_k_within(self, n_learners: int) -> None:
        """Raise InvalidInputError unless k is `any` or 1 <= k <= n_learners."""
        within = self.k == "any" or self.k <= n_learners
        require(within, f"1 <= k <= n = {n_learners}", self.k, "give a k in the range")

    @staticmethod
    def from_dict(point: Mapping[str, Any]) -> SelectionParams:
        """The point with these values, as `as_dict` returns or as Optuna or Tune proposes them.

        Raises:
            TypeError: a hyperparameter is unknown or missing.
            InvalidInputError: a value is out of its range.
        """
        return SelectionParams(**point)

    def as_dict(self) -> dict[str, Any]:
        """The point as a plain dictionary, in the order k, epsilon, m, lr, gradient, vote."""
        return asdict(self)


@dataclass(frozen=True)
class Published:
    """The paper's numbers for one data set: Tables 1 and 2 as fractions, Table 3 as a count."""

    specialised: float
    complementary: float
    overall: float
    e2e_cel: float
    super_learner: float
    unweighted_average: float
    plurality_vote: float
    random_selection: float
    k: int


@dataclass(frozen=True)
class Experiment:
    """Everything about one data set and preset that decides a run's results, but for the seed.

    Attributes:
        dataset: name of the reader in `distcel.data.readers`.
        image_size: side in pixels that images are resized to; None keeps their own.
        specialty_share: fraction of a base learner's training samples that belong to its classes.
        architecture: builds the base learners and the selection net alike, as in the paper; an
            Architecture or a function `(n_outputs, image_shape) -> torch.nn.Module` of your own.
        learner_recipe: how a base learner is trained.
        selector_recipe: how the selection net is trained; each trial brings its own lr. It alone
            sees augmented images: the cached predictions are of the images as they are.
        space: Optuna distribution of each of epsilon, m, lr and gradient; where it names neither, k
            is 1..n on a logarithmic scale and the vote the paper's sum.
        first_trial: the point that the search begins with, the paper's own where it has one.
        num_samples: trials of the search.
        k: `any` trains one selection net for every k in each trial, unless the space names k or the
            vote is learned; `searched`, the paper's way, trains each trial's for a k of its own.
        learner_sets: `specialists`, the paper's: a learner for each class and pair of classes;
            `singles`: one for each class; groups of class names, a learner each; or federated
            `Clients`.
        published: the paper's numbers; None where it has no such data set.
        holdout_share: fraction of the train split, one over a whole number, that selector split
            `holdout` keeps from the base learners.
        valid_share: fraction of the training samples that becomes the valid split.
        test_share: fraction that becomes the test split, where the data set comes without one.
        max_samples: cap on the samples of each split, drawn by class; None keeps all.
        note: how this differs from the published recipe, or what the recipe leaves open.
        architecture_version: the version of a function as architecture, part of the cache keys.
    """

    dataset: str
    image_size: int | None
    specialty_share: float
    architecture: Architecture | NetworkFunction
    learner_recipe: Recipe
    selector_recipe: Recipe
    space: Mapping[str, BaseDistribution] = field(hash=False)
    first_trial: SelectionParams
    num_samples: int
    k: Literal["any", "searched"] = "searched"
    learner_sets: LearnerSets = "specialists"
    published: Published | None = None
    holdout_share: float = 0.2
    valid_share: float = 0.1
    test_share: float = 0.2
    max_samples: int | None = None
    note: str = ""
    architecture_version: str = ""

    @property
    def network(self) -> Architecture | OwnArchitecture:
        """The architecture, a function together with its version."""
        if isinstance(self.architecture, Architecture):
            return self.architecture
        return OwnArchitecture(self.architecture, self.architecture_version)

    def __post_init__(self) -> None:
        rule = "an Architecture or a function that builds a network as architecture"
        fits = isinstance(self.architecture, Architecture) or callable(self.architecture)
        require(fits, rule, self.architecture, "give one of these")
        _ = self.network  # raises where a function has no version
        for name in ("specialty_share", "holdout_share", "valid_share", "test_share"):
            require_fraction(name, getattr(self, name))
        whole = math.isclose(1 / self.holdout_share, round(1 / self.holdout_share), rel_tol=1e-6)
        rule = "one over a whole number as holdout_share"
        require(whole, rule, self.holdout_share, "give 0.2, or 1/13, say")
        object.__setattr__(self, "learner_sets", checked_sets(self.learner_sets))
        require_count("num_samples", self.num_samples)
        rule, remedy = "k in ('any', 'searched')", "choose one of these, or fix k for a number"
        require(self.k in ("any", "searched"), rule, self.k, remedy)
        for name in ("image_size", "max_samples"):
            if (number := getattr(self, name)) is not None:
                require_count(name, number)


def trains_any_k(experiment: Experiment, fixed: Mapping[str, Any]) -> bool:
    """Whether trials train one selection net for every k, unless k is fixed.

    Never with a learned vote, nor where the experiment's space has a k of its own.
    """
    summed = fixed.get("vote", "sum") == "sum" and "vote" not in experiment.space
    return experiment.k == "any" and summed and "k" not in experiment.space


def first_point(
    experiment: Experiment, n_learners: int, fixed: Mapping[str, Any]
) -> SelectionParams:
    """The point of trial 0: the experiment's own, with k at most n and with the fixed values.

    Raises:
        InvalidInputError: a fixed value is out of its range.
    """
    own = experiment.first_trial.as_dict()
    if trains_any_k(experiment, fixed):
        own["k"] = "any"
    elif own["k"] == "any":
        own["k"] = n_learners
    else:
        own["k"] = min(own["k"], n_learners)
    point = SelectionParams.from_dict(own | dict(fixed))
    point.require_k_within(n_learners)
    return point
