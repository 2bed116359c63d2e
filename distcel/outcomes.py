"""What several seeds' runs measured, and what is read off all of them together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distcel.comparison import Comparison
from distcel.cost import knee, pareto_front
from distcel.learned_vote import LEARNED_VOTE
from distcel.measures import SMART
from distcel.trained_rules import BRIEF_SINGLE, SINGLE

CURVES = (SMART, "RS", "UA", "PV", "SL")  # of Figure 2
SEARCHED = f"{SMART}, k of each search"
_STACKING, _STATIC = "logistic stacking", "static top-k"


@dataclass(frozen=True)
class SeedOutcome:
    """One seed's run.

    Attributes:
        results: the content of its `results.json`.
        comparison: what was measured beside it.
    """

    results: Mapping[str, Any]
    comparison: Comparison


@dataclass(frozen=True)
class CostPoint:
    """What a prediction costs and how accurate it is.

    Attributes:
        rule: its title.
        k: how many base learners it asks, in the mean over the seeds.
        multiply_adds: of an image, in the mean over the seeds.
        accuracies: of each seed, as fractions.
        on_front: whether no cheaper k of e2e-CEL is as accurate, by the mean over the seeds.
        is_knee: whether it is that front's knee.
    """

    rule: str
    k: float
    multiply_adds: float
    accuracies: tuple[float, ...]
    on_front: bool = False
    is_knee: bool = False


def mean_and_deviation(values: Sequence[float], scale: float = 100.0, sign: str = "") -> str:
    """In percent; the standard deviation is the sample's, and missing for one value."""
    mean = f"{scale * statistics.mean(values):{sign}.2f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.2f}"


def common_rules(outcomes: Sequence[SeedOutcome]) -> list[str]:
    """The rules that every seed has; one that is trained may have diverged in some."""
    accuracies = [outcome.comparison.measures.accuracy for outcome in outcomes]
    return [title for title in accuracies[0] if all(title in found for found in accuracies)]


def common_ks(outcomes: Sequence[SeedOutcome]) -> list[int]:
    """The values of k of Figure 2 that every seed has."""
    sets = [set(outcome.comparison.curve) for outcome in outcomes]
    return sorted(set.intersection(*sets))


def accuracies_at(outcomes: Sequence[SeedOutcome], k: int, title: str) -> list[float]:
    """A rule's accuracies at one k of Figure 2, of each seed."""
    return [outcome.comparison.curve[k][title] for outcome in outcomes]


def cost_points(outcomes: Sequence[SeedOutcome]) -> list[CostPoint]:
    """E2e-CEL's at each k of Figure 2, the cheapest first, at each seed's own k, and then others'.

    A learner's own matrix, which the learned vote and stacking have, is C x C multiply-adds more.
    A single network asks no learner and costs as much as one.
    """
    cost, ks = outcomes[0].comparison.cost, common_ks(outcomes)
    costs = [cost.of_sub_ensemble(k) for k in ks]
    accuracies = [tuple(accuracies_at(outcomes, k, SMART)) for k in ks]
    means = [statistics.mean(values) for values in accuracies]
    front, at_knee = pareto_front(costs, means), knee(costs, means)
    smart = [
        CostPoint(SMART, k, costs[i], accuracies[i], i in front, i == at_knee)
        for i, k in enumerate(ks)
    ]
    chosen = [outcome.results["best"]["k"] for outcome in outcomes]
    spent = statistics.mean(map(cost.of_sub_ensemble, chosen))
    searched = CostPoint(SEARCHED, statistics.mean(chosen), spent, _accuracies(outcomes, SMART))
    return [*smart, searched, *_cost_of_rivals(outcomes, chosen)]


def _cost_of_rivals(outcomes: Sequence[SeedOutcome], chosen: Sequence[int]) -> list[CostPoint]:
    cost, n = outcomes[0].comparison.cost, outcomes[0].results["n_learners"]
    matrix = outcomes[0].results["n_classes"] ** 2
    asked_and_spent = {
        _STATIC: (statistics.mean(chosen), statistics.mean(map(cost.of_learners, chosen))),
        "UA": (n, cost.of_learners(n)),
        _STACKING: (n, cost.of_learners(n) + n * matrix),
        SINGLE: (0, cost.learner),
        BRIEF_SINGLE: (0, cost.learner),
    }
    learned = [outcome.comparison.learned_vote for outcome in outcomes]
    asked = [trial.params.k for trial in learned if trial]
    if len(asked) == len(outcomes):
        spent = statistics.mean(cost.of_sub_ensemble(k) + k * matrix for k in asked)
        asked_and_spent = {LEARNED_VOTE: (statistics.mean(asked), spent), **asked_and_spent}
    there = common_rules(outcomes)
    return [
        CostPoint(title, k, spent, _accuracies(outcomes, title))
        for title, (k, spent) in asked_and_spent.items()
        if title in there
    ]


def _accuracies(outcomes: Sequence[SeedOutcome], title: str) -> tuple[float, ...]:
    return tuple(outcome.comparison.measures.accuracy[title] for outcome in outcomes)
