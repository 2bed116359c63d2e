"""The figures of a reproduction, each as PNG and as SVG."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distcel.report.claims import SMART
from distcel.report.frame import Results, curve_keys, launches, over_k, rule_titles, title
from distcel.report.pareto import CostPoint, cost_points
from distcel.storage.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A few rules of Table 8 that differ in kind: more of them would overlap.
IN_PARETO = (
    SMART,
    "learned_vote",
    "static_top_k",
    "unweighted_average",
    "stacking",
    "single_network",
    "brief_single_network",
)


def draw_figure_2(results: Results, folder: Path) -> None:
    """Draw Figure 2 with a band of one standard deviation, as `figure2.png` and `figure2.svg`."""
    figure, axes = _figure(results)
    titles = rule_titles(results)
    for key in curve_keys(results):
        found = over_k(results, key)
        ks = [int(k) for k in found.index]
        means, widths = _percent([list(row) for row in found.itertuples(index=False)])
        marker = "o" if key in (SMART, "random_selection") else None
        (line,) = axes.plot(ks, means, marker=marker, label=titles[key])
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


def draw_pareto(results: Results, folder: Path) -> None:
    """Draw accuracy against the cost of a prediction, as `pareto.png` and `pareto.svg`."""
    figure, axes = _figure(results)
    points = cost_points(results)
    smart = rule_titles(results)[SMART]
    front = [point for point in points if point.on_front]
    millions = [point.multiply_adds / 1e6 for point in front]
    axes.plot(
        millions, _percent([p.accuracies for p in front])[0], label=f"Pareto front of {smart}"
    )
    drawn: dict[str, list[CostPoint]] = {}
    for point in points:
        if point.key in IN_PARETO:
            drawn.setdefault(point.title, []).append(point)
    # In the order of IN_PARETO, whatever order the rules have.
    for found in sorted(drawn.values(), key=lambda found: IN_PARETO.index(found[0].key)):
        _draw_points(axes, found)
    for point in points:
        if point.over_k:
            label = f"k = {point.k}, knee" if point.is_knee else str(point.k)
            xy = point.multiply_adds / 1e6, 100 * point.accuracy
            axes.annotate(label, xy, textcoords="offset points", xytext=(4, -11), fontsize=8)
    axes.set(xlabel="million multiply-adds of an image")
    _logarithmic(axes)
    _save_with_legend(figure, folder / "pareto")


def _draw_points(axes: Axes, points: Sequence[CostPoint]) -> None:
    means, widths = _percent([point.accuracies for point in points])
    millions = [point.multiply_adds / 1e6 for point in points]
    fmt = "o" if points[0].over_k else "s"
    axes.errorbar(millions, means, widths, fmt=fmt, label=points[0].title)


def _figure(results: Results) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(ylabel="test accuracy, %", title=title(launches(results)[0]))
    return figure, axes


def _logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _percent(values: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Means and standard deviations in percent; the deviation of a single value is 0."""
    percent = [[100 * value for value in row] for row in values]
    deviations = [statistics.stdev(row) if len(row) > 1 else 0.0 for row in percent]
    return [statistics.mean(row) for row in percent], deviations


def _save_with_legend(figure: Figure, path: Path) -> None:
    from matplotlib import rc_context

    figure.legend(loc="outside right center")  # inside the axes it would hide points
    # Equal figures are equal files, without a date and with the same names inside.
    with rc_context({"svg.hashsalt": path.name}):
        for kind, metadata in (("png", {}), ("svg", {"Date": None})):
            save = partial(figure.savefig, format=kind, dpi=150, metadata=metadata)
            write_atomically(path.with_suffix(f".{kind}"), save)
