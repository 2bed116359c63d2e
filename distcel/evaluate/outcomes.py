"""What several seeds' runs measured, and what is read off all of them together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distcel.core.cost import knee, pareto_front
from distcel.evaluate.compare import Comparison
from distcel.evaluate.measures import SMART
from distcel.rules.learned_vote import LEARNED_VOTE
from distcel.rules.registry import OWN_K
from distcel.rules.trained import BRIEF_SINGLE, EQ_7, SINGLE, SOFT_GATING, STRAIGHT_THROUGH

CURVES = (SMART, "RS", "UA", "PV", "SL")  # of Figure 2
SEARCHED = f"{SMART}, k of each search"


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

    Left out are the rules that ask other learners of each image or whose number is kept nowhere.
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
    return [*smart, *_cost_at_own_k(outcomes)]


def _cost_at_own_k(outcomes: Sequence[SeedOutcome]) -> list[CostPoint]:
    """Of e2e-CEL and of the other rules that every seed has."""
    by_seed = [_asked_and_spent(outcome) for outcome in outcomes]
    there, points = common_rules(outcomes), []
    for title in by_seed[0]:
        if title in there and all(title in of_seed for of_seed in by_seed):
            asked, spent = zip(*(of_seed[title] for of_seed in by_seed), strict=True)
            rule = SEARCHED if title == SMART else title
            means = statistics.mean(asked), statistics.mean(spent)
            accuracies = [o.comparison.measures.accuracy[title] for o in outcomes]
            points.append(CostPoint(rule, *means, tuple(accuracies)))
    return points


def _asked_and_spent(outcome: SeedOutcome) -> dict[str, tuple[int, int]]:
    """How many learners a rule asks of an image, by its title, and the multiply-adds in all.

    A learner's own matrix, which the learned vote and stacking have, is C x C multiply-adds more.
    """
    results, comparison = outcome.results, outcome.comparison
    cost, matrix = comparison.cost, results["n_classes"] ** 2
    n, k = results["n_learners"], results["best"]["k"]
    with_net = {SMART: k, EQ_7: results["first"]["k"], STRAIGHT_THROUGH: k, SOFT_GATING: n}
    without = dict.fromkeys(("best learner", "discrete SL"), 1)
    without |= dict.fromkeys(("static top-k", "RS"), k) | dict.fromkeys(("SL", "UA", "PV"), n)
    if OWN_K in comparison.settings:
        without[OWN_K] = int(comparison.settings[OWN_K])
    found = {title: (asked, cost.of_sub_ensemble(asked)) for title, asked in with_net.items()}
    if trial := comparison.learned_vote:
        asked = trial.params.k
        found[LEARNED_VOTE] = (asked, cost.of_sub_ensemble(asked) + asked * matrix)
    found |= {title: (asked, cost.of_learners(asked)) for title, asked in without.items()}
    found["logistic stacking"] = (n, cost.of_learners(n) + n * matrix)
    found["nearest neighbours"] = (0, results["n_samples"]["train"] * cost.distance)
    return found | dict.fromkeys((SINGLE, BRIEF_SINGLE), (0, cost.learner))
