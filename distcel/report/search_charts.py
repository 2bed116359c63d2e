"""Optuna's own figures of a search, built of the trials in `details.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from distcel.report.charts import LEGEND, MARGINS

ENOUGH_FOR_IMPORTANCE = 50  # trials; with fewer the importances are mostly chance
_WORST_TO_BEST = ["#d9a441", "#0081c9"]


def search_figures(trials: Sequence[Mapping[str, Any]], space: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's figures of a search by name: `history`, `parallel` and, of 50 trials, `importance`.

    There is no importance where nothing was searched or every trial is equally accurate.

    Args:
        trials: the trials, as `details.json` has them.
        space: the distribution of each hyperparameter, as Optuna's JSON.
    """
    from optuna import visualization
    from optuna.distributions import json_to_distribution
    from optuna.importance import FanovaImportanceEvaluator

    from distcel.search.study import study_of

    study = study_of(trials, {name: json_to_distribution(text) for name, text in space.items()})
    searched = [name for name in space if len({str(t["params"][name]) for t in trials}) > 1]
    found = {
        "history": visualization.plot_optimization_history(study, target_name="valid accuracy"),
        "parallel": visualization.plot_parallel_coordinate(
            study, searched or None, target_name="valid accuracy"
        ),
    }
    reached = {trial["valid_accuracies"][-1] for trial in trials if trial["state"] == "COMPLETE"}
    if len(trials) >= ENOUGH_FOR_IMPORTANCE and searched and len(reached) > 1:
        evaluator = FanovaImportanceEvaluator(seed=0)
        found["importance"] = visualization.plot_param_importances(
            study, evaluator=evaluator, params=searched
        )
    _visible_in_the_dark(found["parallel"])
    for figure in found.values():
        figure.update_layout(legend=LEGEND, template="none", title=None, margin=MARGINS, height=420)
        figure.update_xaxes(automargin=True)
        figure.update_yaxes(automargin=True)
    return found


def _visible_in_the_dark(parallel: go.Figure) -> None:
    """Optuna's parallel coordinates in colours that are visible on black as well as on white."""
    for trace in parallel.data:
        if trace.mode == "lines" and trace.customdata is not None:
            (trace.line.color,) = sample_colorscale(_WORST_TO_BEST, [trace.y[0]])
            trace.opacity = 0.8
        elif trace.marker.showscale:
            trace.marker.update(colorscale=_WORST_TO_BEST, reversescale=False)
