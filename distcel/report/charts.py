"""The figures of a page as plotly draws them; the page gives them their text and axis colours."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from distcel.report.claims import SMART
from distcel.report.figures import IN_PARETO
from distcel.report.frame import Results, curve_keys, over_k, rule_titles
from distcel.report.pareto import CostPoint

# Near Okabe and Ito's, which the colour-blind tell apart, and visible on black and on white.
COLOURS = ("#0081c9", "#d55e00", "#009e73", "#cc79a7", "#b98500", "#7b6fd0", "#808080", "#b0413e")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon")
_AREAS = {"sizemode": "area", "sizemin": 3}  # of markers: by the number of samples
_BAND = 0.18  # opacity of the band of one standard deviation
MARGINS = {"l": 60, "r": 20, "t": 20, "b": 50}
_PERCENT = {"clipmin": -0.5, "clipmax": 100.5}  # a band of deviations may leave 0 to 100 %
_SHOWN = 14  # letters of a class's name beside a heat map
LEGEND = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"}


def figure_2(results: Results) -> go.Figure:
    """Figure 2: accuracy on test over k, with a band of one standard deviation over the seeds."""
    titles, figure = rule_titles(results), new_figure("k, learners that vote", "test accuracy, %")
    for i, key in enumerate(curve_keys(results)):
        found = over_k(results, key)
        ks = [int(k) for k in found.index]
        rows = [[100 * x for x in row] for row in found.itertuples(index=False)]
        means = [statistics.mean(row) for row in rows]
        widths = [statistics.stdev(row) if len(row) > 1 else 0.0 for row in rows]
        if any(widths):
            upper = [m + w for m, w in zip(means, widths, strict=True)]
            lower = [m - w for m, w in zip(means, widths, strict=True)]
            figure.add_scatter(
                x=ks + ks[::-1],
                y=upper + lower[::-1],
                fill="toself",
                fillcolor=_colour(i),
                opacity=_BAND,
                line_width=0,
                mode="lines",
                legendgroup=key,
                showlegend=False,
                hoverinfo="skip",
            )
        figure.add_scatter(
            x=ks,
            y=means,
            mode="lines+markers",
            name=_text(titles[key]),
            legendgroup=key,
            **_look(i),
        )
    figure.update_yaxes(autorangeoptions=_PERCENT)
    _logarithmic(figure)
    return figure


def accuracy_over_k(launch: Results, rivals: Mapping[str, float]) -> go.Figure:
    """Accuracy on valid of the one selection net at every k, with rules without a k as lines."""
    figure = new_figure("k, learners that vote", "valid accuracy, %")
    reached = [100 * accuracy for accuracy in launch["valid_accuracy_over_k"]]
    ks, chosen = list(range(1, len(reached) + 1)), launch["best"]["k"]
    figure.add_scatter(
        x=ks, y=reached, mode="lines+markers", name=launch["rules"][SMART]["title"], **_look(0)
    )
    for i, (title, accuracy) in enumerate(rivals.items(), 1):
        look = {"line": {"color": _colour(i), "dash": "dash"}}
        both = [100 * accuracy] * 2
        figure.add_scatter(x=[1, ks[-1]], y=both, mode="lines", name=_text(title), **look)
    figure.add_scatter(
        x=[chosen],
        y=[reached[chosen - 1]],
        mode="markers",
        name=f"chosen, k = {chosen}",
        marker={"size": 14, "symbol": "circle-open", "color": _colour(1), "line_width": 3},
    )
    _logarithmic(figure)
    return figure


def accuracy_over_price(launch: Results) -> go.Figure:
    """Accuracy over a sample's mean price at every weight of price, on valid and on test."""
    figure = new_figure("mean price of a sample", "accuracy, %")
    for i, (of, name) in enumerate((("valid_", "valid, where it is chosen"), ("", "test"))):
        figure.add_scatter(
            x=[point[f"{of}price"] for point in launch["front"]],
            y=[100 * point[f"{of}accuracy"] for point in launch["front"]],
            mode="lines+markers",
            name=name,
            **_look(i),
        )
    figure.add_scatter(
        x=[launch["price"]],
        y=[100 * launch["accuracy"][SMART]],
        mode="markers",
        name="the chosen one, on test",
        marker={"size": 14, "symbol": "circle-open", "color": _colour(1), "line_width": 3},
    )
    return figure


def accuracy_over_cost(points: Sequence[CostPoint]) -> go.Figure:
    """Accuracy on test over an image's multiply-adds, with the front."""
    figure = new_figure("million multiply-adds of an image", "test accuracy, %")
    front = sorted((p for p in points if p.on_front), key=lambda p: p.multiply_adds)
    figure.add_scatter(
        x=[p.multiply_adds / 1e6 for p in front],
        y=[100 * p.accuracy for p in front],
        mode="lines",
        name="front over k" if any(p.over_k for p in points) else "front",
        line={"color": "#808080", "dash": "dot"},
    )
    titles: dict[str, list[CostPoint]] = {}
    for point in points:
        if point.key in IN_PARETO or len(points) <= len(COLOURS):
            titles.setdefault(point.title, []).append(point)
    for i, (name, found) in enumerate(titles.items()):
        figure.add_scatter(
            x=[p.multiply_adds / 1e6 for p in found],
            y=[100 * p.accuracy for p in found],
            error_y={
                "array": [_deviation(p) for p in found],
                "visible": len(found[0].accuracies) > 1,
            },
            mode="markers+text" if found[0].over_k else "markers",
            text=[f"{p.k:.4g}" for p in found],
            textposition="bottom right",
            cliponaxis=False,
            hovertemplate="k = %{text}<br>%{x:.4g} million, %{y:.2f} %",
            name=_text(name),
            marker={"size": 10, "color": _colour(i), "symbol": _SYMBOLS[i % len(_SYMBOLS)]},
        )
    figure.update_yaxes(autorangeoptions=_PERCENT)
    _logarithmic(figure)
    return figure


def asked_by_class(details: Mapping[str, Any]) -> go.Figure:
    """For each true class, the share of its samples for which each learner is selected."""
    columns, rows = details["learners"], details["class_names"]
    return _heat_map(details["asked_by_class"], columns, rows, "learner", "selected for")


def confusion(details: Mapping[str, Any]) -> go.Figure:
    """The confusion matrix: of each true class the share with each prediction, with the counts."""
    counts, names = details["confusion"], details["class_names"]
    shares = [[n / max(sum(row), 1) for n in row] for row in counts]
    figure = _heat_map(shares, names, names, "predicted class", "predicted for")
    texts = [[str(n) if n else "" for n in row] for row in counts]
    figure.update_traces(text=texts, texttemplate="%{text}" if len(names) <= 15 else None)
    return figure


def reliability(details: Mapping[str, Any]) -> go.Figure:
    """Accuracy over confidence, before and after the temperature."""
    figure = new_figure("confidence", "accuracy")
    ideal = {"color": "#808080", "dash": "dot"}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="calibrated", line=ideal)
    for i, (when, bins) in enumerate(details["reliability"].items()):
        figure.add_scatter(
            x=[b["confidence"] for b in bins],
            y=[b["accuracy"] for b in bins],
            text=[f"{b['n']} samples" for b in bins],
            mode="lines+markers",
            cliponaxis=False,
            name=f"{when} the temperature",
            line_color=_colour(i),
            marker={"symbol": _SYMBOLS[i], "size": [b["n"] for b in bins], **_AREAS},
            marker_sizeref=max(b["n"] for b in bins) / 20**2,
        )
    figure.update_xaxes(range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.02])
    return figure


def seconds_by_stage(seconds: Mapping[str, float]) -> go.Figure:
    """Minutes of one worker that the trainings of each stage took."""
    figure = new_figure("minutes of one worker", "")
    stages = [name.replace("_", " ") for name in seconds][::-1]
    minutes = [value / 60 for value in seconds.values()][::-1]
    figure.add_bar(x=minutes, y=stages, orientation="h", marker_color=_colour(0))
    figure.update_layout(height=180 + 30 * len(stages), margin={**MARGINS, "l": 120})
    return figure


def new_figure(x: str, y: str) -> go.Figure:
    """An empty figure with titles of its axes."""
    figure = go.Figure()
    figure.update_layout(template="none", height=420, margin=MARGINS, legend=LEGEND)
    figure.update_xaxes(title=x, automargin=True)
    figure.update_yaxes(title=y, automargin=True)
    return figure


def _heat_map(
    shares: Sequence[Sequence[float]],
    columns: Sequence[str],
    rows: Sequence[str],
    x: str,
    verb: str,
) -> go.Figure:
    figure = new_figure(x, "true class")
    figure.add_heatmap(
        z=shares,
        x=[_text(name) for name in columns],
        y=[_text(name) for name in rows],
        zmin=0,
        zmax=1,
        colorscale="Viridis",
        colorbar={"tickformat": ".0%", "thickness": 12},
        hovertemplate=f"%{{x}} {verb} %{{z:.1%}} of class %{{y}}<extra></extra>",
    )
    figure.update_xaxes(type="category")
    short = [name if len(name) <= _SHOWN else f"{name[: _SHOWN - 1]}…" for name in rows]
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        title_standoff=10,  # or it lies on long names
        tickvals=list(range(len(rows))),
        ticktext=[_text(name) for name in short],
    )
    return figure


def _logarithmic(figure: go.Figure) -> None:
    """A logarithmic x axis with whole labels at 1, 2 and 5 of each decade."""
    values = [x for trace in figure.data for x in trace.x]
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{x:g}" for x in ticks])


def _look(i: int) -> dict[str, Any]:
    symbol = _SYMBOLS[i % len(_SYMBOLS)]
    return {"line": {"color": _colour(i)}, "marker": {"symbol": symbol, "size": 7}}


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _deviation(point: CostPoint) -> float:
    return 100 * statistics.stdev(point.accuracies) if len(point.accuracies) > 1 else 0.0


def _text(name: str) -> str:
    """A name for plotly, which would read it as HTML."""
    return html.escape(name, quote=False)
