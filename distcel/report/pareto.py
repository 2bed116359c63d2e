"""The cost of a prediction against its accuracy: points, Pareto front and knee."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distcel.report.claims import SMART
from distcel.report.frame import Results, accuracies, comparisons, launches, over_k, rule_titles


@dataclass(frozen=True)
class CostPoint:
    """The cost and the accuracy of a rule's prediction.

    Attributes:
        key: the rule's key in `results.json`.
        title: the rule's title in tables and figures.
        k: number of base learners that it uses for an image, mean over the seeds.
        multiply_adds: multiply-adds for an image, mean over the seeds.
        accuracies: accuracy on test of each seed, as a fraction.
        over_k: whether it is a point of the smart ensemble's curve over k.
        on_front: whether no cheaper point of that curve is as accurate, by the mean over the seeds.
        is_knee: whether it is that front's knee.
    """

    key: str
    title: str
    k: float
    multiply_adds: float
    accuracies: tuple[float, ...]
    over_k: bool = False
    on_front: bool = False
    is_knee: bool = False

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return statistics.mean(self.accuracies)


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Indices of the points that no cheaper or equally cheap one equals, the cheapest first."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if not front or accuracies[i] > accuracies[front[-1]]:
            front.append(i)
    return front


def knee(costs: Sequence[float], accuracies: Sequence[float]) -> int | None:
    """Index of the front's point farthest above the chord between its ends (Satopaa et al. 2011).

    None where no point of the front lies above it.
    """
    front = pareto_front(costs, accuracies)
    if len(front) < 3:
        return None
    x, y = (np.array(values, float)[front] for values in (costs, accuracies))
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return front[int(above.argmax())] if above.max() > 0 else None


def cost_points(results: Results) -> list[CostPoint]:
    """The points of the smart ensemble at each k of Figure 2, then of each rule with a known cost.

    Left out are rules whose learners differ from image to image, or whose number is not recorded.
    """
    return [*_smart_points(results), *_rule_points(results)]


def launch_points(launch: Results) -> list[CostPoint]:
    """The points of a launch's rules whose cost is known, with their front."""
    rules = {
        key: rule for key, rule in launch["rules"].items() if rule["multiply_adds"] is not None
    }
    costs = [rule["multiply_adds"] for rule in rules.values()]
    reached = [launch["accuracy"][key] for key in rules]
    front = pareto_front(costs, reached)
    return [
        CostPoint(key, rule["title"], rule["asked"], cost, (accuracy,), on_front=i in front)
        for i, ((key, rule), cost, accuracy) in enumerate(
            zip(rules.items(), costs, reached, strict=True)
        )
    ]


def _smart_points(results: Results) -> list[CostPoint]:
    title = rule_titles(results)[SMART]
    costs = {p["k"]: p["multiply_adds"] for p in comparisons(results)[0]["over_k"]}
    found = over_k(results, SMART)
    ks = [int(k) for k in found.index]
    rows = [tuple(row) for row in found.itertuples(index=False)]
    means = [statistics.mean(row) for row in rows]
    spent = [costs[k] for k in ks]
    front, at_knee = pareto_front(spent, means), knee(spent, means)
    return [
        CostPoint(
            SMART,
            title,
            k,
            costs[k],
            rows[i],
            over_k=True,
            on_front=i in front,
            is_knee=i == at_knee,
        )
        for i, k in enumerate(ks)
    ]


def _rule_points(results: Results) -> list[CostPoint]:
    points = []
    for key, row in accuracies(results).iterrows():
        rules = [comparison["rules"][key] for comparison in comparisons(results)]
        costs: list[Any] = [rule["multiply_adds"] for rule in rules]
        if None in costs:
            continue
        title = rules[0]["title"]
        if key == SMART:
            title += ", k of each search"
        k = statistics.mean(rule["asked"] for rule in rules)
        points.append(CostPoint(str(key), title, k, statistics.mean(costs), tuple(row)))
    return points


def front_of_all(points: Sequence[CostPoint]) -> list[bool]:
    """Whether each point is on the Pareto front of all; points that are equal share their place."""
    means = [point.accuracy for point in points]
    front = pareto_front([point.multiply_adds for point in points], means)
    places = {(points[i].multiply_adds, means[i]) for i in front}
    return [
        (point.multiply_adds, mean) in places for point, mean in zip(points, means, strict=True)
    ]


def best_k(results: Results, on_test: bool) -> list[tuple[int, float]]:
    """Each seed's k of Figure 2 that is best on valid, or on test, and its accuracy on test."""
    found = []
    for comparison in comparisons(results):
        points = comparison["over_k"]
        reached = [p["accuracy"][SMART] if on_test else p["valid_accuracy"] for p in points]
        best = points[reached.index(max(reached))]
        found.append((best["k"], best["accuracy"][SMART]))
    return found


def selected_ks(results: Results) -> list[int]:
    """The k that each seed's search found."""
    return [launch["best"]["k"] for launch in launches(results)]
