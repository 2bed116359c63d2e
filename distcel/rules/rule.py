"""What a rule is: its name, what it is fitted on, how many learners it asks and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distcel.core.cost import MultiplyAdds
from distcel.data.splits import Split

# Maps any split to class probabilities (S, C).
FittedRule = Callable[[Split], Tensor]
# Class probabilities of a rule's D draws; most rules have one draw.
ProbsDSC = NDArray[np.floating[Any]]
FittedOn = Literal["nothing", "train", "valid"]


class ConsensusRule(Protocol):
    """Combines the base learners' predictions into one."""

    def fit(self, fitted: Split) -> FittedRule:
        """Fit it to a split; the result maps any split to class probabilities (S, C)."""
        ...


@dataclass(frozen=True)
class RunFacts:
    """What decides how many learners a rule asks and what it costs.

    Attributes:
        n_learners: N.
        n_classes: C.
        n_train: samples of the train split.
        k: of the smart ensemble.
        first_k: of the search's first trial.
        multiply_adds: of the networks.
        learned_k: of the learned vote, where it was searched.
        chosen: what rules chose on valid, by key.
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
    """What a consensus rule is built from.

    Attributes:
        k: of the smart ensemble.
        seed: of random draws.
        valid: the split that settings are chosen on.
    """

    k: int
    seed: int
    valid: Split


Count = Callable[[RunFacts], int | None]
Build = Callable[[RuleOptions], Sequence[ConsensusRule]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that turns an image or the learners' predictions of it into class probabilities.

    What has no default has to be given: a rule that lacks it cannot be imported.

    Attributes:
        key: identifies it in `results.json`.
        title: what tables and figures show.
        about: what it is, for the notes of a report.
        fitted_on: the split that its parameters, or the learners it takes, are fitted on.
        asked: how many base learners it asks of an image; None where that differs by image or is
            not recorded.
        cost: multiply-adds of an image; None as for `asked`.
        build: for a rule that trains no network, its draws, whose accuracies are averaged.
        chosen: the setting of it that is chosen on valid, an attribute of the consensus rule.
        asks_learners: whether it uses the base learners at all.
    """

    key: str
    title: str
    about: str
    fitted_on: FittedOn
    asked: Count
    cost: Count
    build: Build | None = None
    chosen: str | None = None
    asks_learners: bool = True

    def describe(self, facts: RunFacts) -> dict[str, Any]:
        """The facts that a report shows of it, for `results.json`."""
        return {
            "title": self.title,
            "about": self.about,
            "fitted_on": self.fitted_on,
            "asked": self.asked(facts),
            "multiply_adds": self.cost(facts),
        }


def nobody(_: RunFacts) -> int:
    """It asks no learner."""
    return 0


def one(_: RunFacts) -> int:
    """It asks one learner, the same for every image."""
    return 1


def everybody(facts: RunFacts) -> int:
    """It asks all learners."""
    return facts.n_learners


def selected(facts: RunFacts) -> int:
    """It asks as many as the smart ensemble."""
    return facts.k


def differs(_: RunFacts) -> None:
    """It asks others of each image, or how many is not recorded."""
    return


def learners(asked: Count, matrices: bool = False) -> Count:
    """The cost of the learners that are asked, with a C x C matrix for each if `matrices`."""

    def cost(facts: RunFacts) -> int | None:
        count = asked(facts)
        if count is None:
            return None
        per_learner = facts.n_classes**2 if matrices else 0
        return facts.multiply_adds.of_learners(count) + count * per_learner

    return cost


def selection_net_and(asked: Count, matrices: bool = False) -> Count:
    """The cost of the selection net and of `learners`."""
    rest = learners(asked, matrices)

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
