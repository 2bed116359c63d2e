"""Mean ranks over data sets, Friedman's test and Nemenyi's critical difference (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

_LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """The methods' ranks by accuracy, 1 the best; equals share their mean rank.

    Attributes:
        names: the M methods.
        mean_ranks: of each method over the data sets.
        p: Friedman's, that the methods do not differ.
        critical_difference: two mean ranks that are farther apart differ at the level 0.05.
        n_datasets: number of data sets.
    """

    names: Sequence[str]
    mean_ranks: NDArray[np.float64]
    p: float
    critical_difference: float
    n_datasets: int


def rank(names: Sequence[str], accuracy_DM: NDArray[np.float64]) -> Ranks:
    """Rank the methods from their accuracies, of shape (data sets, methods)."""
    n_datasets, n_methods = accuracy_DM.shape
    # Equal numbers of correct predictions are equal ranks, whatever the order of their sum.
    ranks_DM = rankdata(-accuracy_DM.round(9), axis=1)
    p = float(friedmanchisquare(*accuracy_DM.T).pvalue)
    quantile = studentized_range.ppf(1 - _LEVEL, n_methods, np.inf) / np.sqrt(2)
    difference = quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets))
    return Ranks(names, ranks_DM.mean(0), p, float(difference), n_datasets)


def draw(ranks: Ranks, file: Path) -> None:
    """Draw the mean ranks as SVG; bars join methods that do not differ."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "ranks"  # the same picture gives the same file
    from matplotlib import pyplot

    order = np.argsort(ranks.mean_ranks)
    n, values = len(order), ranks.mean_ranks[order]
    rows = -(-n // 2)
    bars = _bars(values, ranks.critical_difference)
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.25 * rows + 0.12 * len(bars)))
    axes.plot([1, n], [0, 0], color="black")
    for tick in range(1, n + 1):
        axes.plot([tick, tick], [0, 0.15], color="black")
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom")
    axes.plot([1, 1 + ranks.critical_difference], [1.2, 1.2], color="black", linewidth=2)
    axes.text(1, 1.3, f"critical difference {ranks.critical_difference:.2f}", va="bottom")
    below = 0.5 + 0.3 * len(bars)
    for i, (method, value) in enumerate(zip(order, values, strict=True)):
        left = i < rows
        height = -below - 0.6 * (i if left else n - 1 - i)
        end = 0.5 if left else n + 0.5
        axes.plot([value, value, end], [0, height, height], color="grey", linewidth=0.8)
        label = f"{ranks.names[method]} ({value:.2f})"
        axes.text(end, height, label, ha="right" if left else "left", va="center")
    for i, (low, high) in enumerate(bars):
        height = -0.3 - 0.3 * i
        axes.plot([low - 0.05, high + 0.05], [height, height], color="black", linewidth=3)
    axes.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _bars(sorted_ranks: NDArray[np.float64], difference: float) -> list[tuple[float, float]]:
    """The longest runs of at least two mean ranks within the critical difference."""
    bars: list[tuple[float, float]] = []
    for i, low in enumerate(sorted_ranks):
        high = sorted_ranks[i:][sorted_ranks[i:] <= low + difference][-1]
        if high > low and (not bars or high > bars[-1][1]):
            bars.append((float(low), float(high)))
    return bars
