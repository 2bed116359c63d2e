"""A rule: its name, what it is fitted on, how many learners it uses, and its cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distcel.core.cost import MultiplyAdds
from distcel.data.splits import Split

# Maps a split to class probabilities (S, C).
FittedRule = Callable[[Split], Tensor]
# The class probabilities of the D draws of a rule; most rules have one draw.
ProbsDSC = NDArray[np.floating[Any]]
# Maps a split to vectors (S, D), between which distances are measured.
Features = Callable[[Split], NDArray[np.float32]]
FittedOn = Literal["nothing", "train", "valid"]


class ConsensusRule(Protocol):
    """Combines the base learners' predictions into one."""

    def fit(self, fitted: Split) -> FittedRule:
        """Fit the rule to a split; the result maps any split to class probabilities (S, C)."""
        ...


@dataclass(frozen=True)
class RunFacts:
    """The facts of a run that determine how many learners a rule uses, and its cost.

    Attributes:
        n_learners: N.
        n_classes: C.
        n_train: number of samples of the train split.
        k: k of the smart ensemble.
        first_k: k of the search's first trial.
        multiply_adds: multiply-adds of the networks.
        learned_k: k of the learned vote; None where it was not searched.
        chosen: the settings that were chosen on valid, by the rule's key.
    """

    n_learners: int
    n_classes: int
    n_train: int
    k: int
    first_k: int
    multiply_adds: MultiplyAdds
    learned_k: int | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RuleOptions:
    """The options that consensus rules are built with.

    Attributes:
        k: k of the smart ensemble.
        seed: seeds random draws.
        valid: the split that settings are chosen on.
        priors_NC: the share of each class in each learner's training samples, (N, C).
        embed: the embedding of images by the smart ensemble's selection net.
    """

    k: int
    seed: int
    valid: Split
    priors_NC: NDArray[np.float64]
    embed: Features


Count = Callable[[RunFacts], int | None]
Build = Callable[[RuleOptions], Sequence[ConsensusRule]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that turns an image or the learners' predictions of it into class probabilities.

    An attribute without a default has to be given: a rule that lacks it cannot be imported.

    Attributes:
        key: identifies the rule in `results.json`.
        title: the name in tables and figures.
        about: a description, for the notes of a report.
        fitted_on: the split that its parameters, or the learners it selects, are fitted on.
        n_used: the number of base learners that it uses for an image; None where that varies by
            image or is not recorded.
        cost: multiply-adds of an image; None as for `n_used`.
        build: builds the draws of a rule that trains no network; their accuracies are averaged.
        chosen: the attribute of the consensus rule that is chosen on valid, if any.
    """

    key: str
    title: str
    about: str
    fitted_on: FittedOn
    n_used: Count
    cost: Count
    build: Build | None = None
    chosen: str | None = None

    @property
    def uses_learners(self) -> bool:
        """Whether the rule uses the base learners at all."""
        return self.n_used is not no_learners

    def describe(self, facts: RunFacts) -> dict[str, Any]:
        """The description of the rule in `results.json`, which reports show."""
        return {
            "title": self.title,
            "about": self.about,
            "fitted_on": self.fitted_on,
            "asked": self.n_used(facts),
            "multiply_adds": self.cost(facts),
        }


def no_learners(_: RunFacts) -> int:
    """No learner is used."""
    return 0


def one_learner(_: RunFacts) -> int:
    """One learner is used, the same for every image."""
    return 1


def all_learners(facts: RunFacts) -> int:
    """All learners are used."""
    return facts.n_learners


def k_learners(facts: RunFacts) -> int:
    """As many learners are used as the smart ensemble selects."""
    return facts.k


def unknown(_: RunFacts) -> None:
    """The number varies by image, or is not recorded."""
    return


def cost_of_learners(n_used: Count, matrices: bool = False) -> Count:
    """The cost of the learners that are used, with a C x C matrix for each if `matrices`."""

    def cost(facts: RunFacts) -> int | None:
        count = n_used(facts)
        if count is None:
            return None
        per_learner = facts.n_classes**2 if matrices else 0
        return facts.multiply_adds.of_learners(count) + count * per_learner

    return cost


def cost_with_selection_net(n_used: Count, matrices: bool = False) -> Count:
    """The cost of the selection net, added to `cost_of_learners`."""
    rest = cost_of_learners(n_used, matrices)

    def cost(facts: RunFacts) -> int | None:
        count = rest(facts)
        return None if count is None else facts.multiply_adds.selection_net + count

    return cost


def predict_draws(draws: Sequence[ConsensusRule], fitted: Split, test: Split) -> ProbsDSC:
    """The class probabilities of each of the rules for each sample of `test`, (D, S, C)."""
    return np.stack([rule.fit(fitted)(test).numpy() for rule in draws])


def correct(probs_DSC: ProbsDSC, labels_S: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the most probable class is the sample's own, (D, S)."""
    correct_DS: NDArray[np.bool_] = probs_DSC.argmax(-1) == labels_S
    return correct_DS
