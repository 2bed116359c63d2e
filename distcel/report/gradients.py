"""The table of the knapsack layer's gradients, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from distcel.report.frame import Results, comparisons, mean_and_deviation


def gradients_table(results: Results) -> pd.DataFrame:
    """The knapsack layer's gradients side by side; empty if no seed has them."""
    studies = [found["gradients"] for found in comparisons(results) if found["gradients"]]
    rows: dict[str, list[str]] = {}
    for title in dict.fromkeys(run["title"] for study in studies for run in study):
        runs = [next((run for run in s if run["title"] == title), None) for s in studies]
        found = [(s, run) for s, run in zip(studies, runs, strict=True) if run]
        seconds = [_seconds(run) / len(run["epochs"]) for _, run in found]
        in_time = [accuracy_within(run, min(map(_seconds, study))) for study, run in found]
        columns = [
            ([run["epochs"][-1]["valid_accuracy"] for _, run in found], 100.0),
            ([run["test_accuracy"] for _, run in found], 100.0),
            (seconds, 1.0),
            (in_time, 100.0),
        ]
        rows[title] = [
            mean_and_deviation(values, scale, n_seeds=len(studies)) for values, scale in columns
        ]
    names = ["valid, same epochs", "test, same epochs", "seconds an epoch", "valid, same time"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("gradient")


def _seconds(run: Mapping[str, Any]) -> float:
    return float(sum(epoch["seconds"] for epoch in run["epochs"]))


def accuracy_within(run: Mapping[str, Any], seconds: float) -> float | None:
    """Accuracy on valid after the last epoch that ended within the seconds; None if none did."""
    reached, spent = None, 0.0
    for epoch in run["epochs"]:
        spent += epoch["seconds"]
        if spent <= seconds:
            reached = epoch["valid_accuracy"]
    return reached


def n_epochs(results: Results) -> int:
    """The number of epochs that each gradient was trained for; 0 if none was."""
    studies = [found["gradients"] or [] for found in comparisons(results)]
    return max((len(run["epochs"]) for study in studies for run in study), default=0)
