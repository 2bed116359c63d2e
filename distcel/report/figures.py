"""The figures of a reproduction, each as PNG and as SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distcel.evaluate.measures import SMART
from distcel.evaluate.outcomes import (
    CURVES,
    SEARCHED,
    CostPoint,
    SeedOutcome,
    accuracies_at,
    common_ks,
    cost_points,
)
from distcel.rules.learned_vote import LEARNED_VOTE
from distcel.rules.trained import BRIEF_SINGLE, SINGLE
from distcel.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_IN_PARETO = (
    *(SMART, SEARCHED, LEARNED_VOTE, "static top-k", "UA", "logistic stacking"),
    *(SINGLE, BRIEF_SINGLE),
)


def draw_figure_2(title: str, outcomes: Sequence[SeedOutcome], folder: Path) -> None:
    """Figure 2 with a band of one standard deviation, as `figure2.png` and `figure2.svg`."""
    figure, axes = _figure(title)
    ks = common_ks(outcomes)
    for name in CURVES:
        means, widths = _percent([accuracies_at(outcomes, k, name) for k in ks])
        (line,) = axes.plot(ks, means, marker="o" if name in (SMART, "RS") else None, label=name)
        axes.fill_between(
            ks,
            [m - w for m, w in zip(means, widths, strict=True)],
            [m + w for m, w in zip(means, widths, strict=True)],
            color=line.get_color(),
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="k, learners that vote")
    _logarithmic(axes)
    _save_with_legend(figure, folder / "figure2")


def draw_pareto(title: str, outcomes: Sequence[SeedOutcome], folder: Path) -> None:
    """Accuracy against the cost of a prediction, as `pareto.png` and `pareto.svg`.

    Of the rules of Table 8 a few that differ in kind: more of them would hide each other.
    """
    figure, axes = _figure(title)
    points = cost_points(outcomes)
    front = [point for point in points if point.on_front]
    millions = [point.multiply_adds / 1e6 for point in front]
    axes.plot(millions, _percent([p.accuracies for p in front])[0], label="Pareto front of e2e-CEL")
    for rule in _IN_PARETO:
        if drawn := [point for point in points if point.rule == rule]:
            _draw_points(axes, rule, drawn)
    for point in points:
        if point.rule == SMART:
            label = f"k = {point.k}, knee" if point.is_knee else str(point.k)
            xy = point.multiply_adds / 1e6, 100 * statistics.mean(point.accuracies)
            axes.annotate(label, xy, textcoords="offset points", xytext=(4, -11), fontsize=8)
    axes.set(xlabel="million multiply-adds of an image")
    _logarithmic(axes)
    _save_with_legend(figure, folder / "pareto")


def _draw_points(axes: Axes, rule: str, points: Sequence[CostPoint]) -> None:
    means, widths = _percent([point.accuracies for point in points])
    millions = [point.multiply_adds / 1e6 for point in points]
    axes.errorbar(millions, means, widths, fmt="o" if rule == SMART else "s", label=rule)


def _figure(title: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(ylabel="test accuracy, %", title=title)
    return figure, axes


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _percent(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, in percent; the deviation of one value is 0."""
    percent = [[100 * x for x in of_seeds] for of_seeds in values]
    deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in percent]
    return [statistics.mean(v) for v in percent], deviations


def _save_with_legend(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    figure.legend(loc="outside right center")  # inside, it would hide points
    # Equal figures are equal files, without a date and with the same names inside.
    with rc_context({"svg.hashsalt": path.name}):
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            save = partial(figure.savefig, format=kind, dpi=150, metadata=metadata)
            write_atomically(path.with_suffix(f".{kind}"), save)
