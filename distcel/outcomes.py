"""What several seeds' runs measured, and what is read off all of them together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distcel.comparison import Comparison
from distcel.cost import knee, pareto_front
from distcel.measures import SMART

CURVES = (SMART, "RS", "UA", "PV", "SL")  # of Figure 2
_ASK_ALL = ("UA", "logistic stacking")  # rules whose cost is set beside e2e-CEL's


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
        k: how many base learners it asks.
        multiply_adds: of an image.
        accuracies: of each seed, as fractions.
        on_front: whether no cheaper k of e2e-CEL is as accurate, by the mean over the seeds.
        is_knee: whether it is that front's knee.
    """

    rule: str
    k: int
    multiply_adds: int
    accuracies: tuple[float, ...]
    on_front: bool = False
    is_knee: bool = False


def mean_and_deviation(values: Sequence[float], scale: float = 100.0) -> str:
    """In percent; the standard deviation is the sample's, and missing for one value."""
    mean = f"{scale * statistics.mean(values):.2f}"
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
    """E2e-CEL's at each k of Figure 2, the cheapest first, and then the rules that ask everyone."""
    cost, n = outcomes[0].comparison.cost, outcomes[0].results["n_learners"]
    ks = common_ks(outcomes)
    costs = [cost.of_sub_ensemble(k) for k in ks]
    accuracies = [tuple(accuracies_at(outcomes, k, SMART)) for k in ks]
    means = [statistics.mean(values) for values in accuracies]
    front, at_knee = pareto_front(costs, means), knee(costs, means)
    smart = [
        CostPoint(SMART, k, costs[i], accuracies[i], i in front, i == at_knee)
        for i, k in enumerate(ks)
    ]
    all_learners = [
        CostPoint(
            title,
            n,
            cost.of_learners(n),
            tuple(outcome.comparison.measures.accuracy[title] for outcome in outcomes),
        )
        for title in _ASK_ALL
    ]
    return smart + all_learners
