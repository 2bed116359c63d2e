"""Replays a search on a table of `benchmarks.sampler_table`, without training.

A search is of the preset's own space, begins with its first trial and has two workers, as on two
cores: a sampler proposes while another trial runs. A proposal has the accuracies of the table's
nearest point in k, lr and epsilon, on logarithmic scales, as the space is continuous; its m and its
gradient, which the table does not vary, change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from distcel.search.search import SearchSettings

N_WORKERS = 2
_KEPT_SHARE = 1 / 3  # of the trials that reach the rung, as in the search's ASHA
_AXES = ("k", "lr", "epsilon")


@dataclass(frozen=True)
class Table:
    """Valid accuracies of a grid: (K, L, E, epochs), NaN from the epoch in which one diverged."""

    axes: Mapping[str, NDArray[np.float64]]
    accuracy_KLEe: NDArray[np.float64]

    @staticmethod
    def read(path: Path) -> tuple[Table, dict[str, Any]]:
        """The table, and the facts beside its points."""
        facts = json.loads(path.read_text())
        points, n_epochs = facts.pop("points"), facts["recipe"]["epochs"]
        axes = {name: np.unique([point[name] for point in points]) for name in _AXES}
        accuracy = np.full([*map(len, axes.values()), n_epochs], np.nan)
        for point in points:
            where = tuple(np.searchsorted(axes[name], point[name]) for name in _AXES)
            accuracy[where][: len(point["valid_accuracy"])] = point["valid_accuracy"]
        return Table(axes, accuracy), facts

    def nearest(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """The accuracies by epoch of the point nearest on logarithmic scales."""
        where = (np.abs(np.log(axis / params[name])).argmin() for name, axis in self.axes.items())
        accuracy_e: NDArray[np.float64] = self.accuracy_KLEe[tuple(where)]
        return accuracy_e


@dataclass
class Replayed:
    """One trial: the table's accuracies, when it began, and how many epochs it ran.

    The unit of time is an epoch: the trial's first one ends at `began + 1`.
    """

    trial: optuna.Trial
    accuracy_e: NDArray[np.float64]
    began: int
    n_epochs: int = 0

    def last_accuracy(self, ended: float) -> float:
        """After the last epoch that has ended by then; NaN before the first, or once diverged."""
        n_epochs = int(min(self.n_epochs, ended - self.began))
        return float(self.accuracy_e[n_epochs - 1]) if n_epochs > 0 else float("nan")


def replay(
    table: Table, settings: SearchSettings, sampler: BaseSampler, stops: bool
) -> list[Replayed]:
    """All trials of one search.

    Args:
        table: of accuracies.
        settings: the space, the first trial, the epochs and the number of trials.
        sampler: that proposes the points.
        stops: whether trials among the lower two thirds at the rung are stopped there.
    """
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(settings.first.as_dict())
    trials: list[Replayed] = []
    running: list[Replayed] = []
    at_rung: list[float] = []
    now = 0
    while running or len(trials) < settings.num_samples:
        while len(running) < N_WORKERS and len(trials) < settings.num_samples:
            trial = study.ask(settings.space)
            running.append(Replayed(trial, table.nearest(trial.params), now))
            trials.append(running[-1])
        now += 1
        for replayed in [*running]:
            replayed.n_epochs += 1
            accuracy = float(replayed.accuracy_e[replayed.n_epochs - 1])
            ended = replayed.n_epochs == settings.max_epochs
            if stops and not ended and replayed.n_epochs == settings.rung:
                ended = _is_stopped(accuracy, at_rung) and replayed is not trials[0]
            if np.isnan(accuracy):
                study.tell(replayed.trial, state=TrialState.FAIL)
            elif ended:
                study.tell(replayed.trial, accuracy)
            if ended or np.isnan(accuracy):
                running.remove(replayed)
    return trials


def _is_stopped(accuracy: float, at_rung: list[float]) -> bool:
    """Whether the trials that were at the rung before it leave it no place; it is added to them."""
    if np.isnan(accuracy):
        return False
    cutoff = np.percentile(at_rung, 100 * (1 - _KEPT_SHARE)) if at_rung else 0.0
    at_rung.append(accuracy)
    return bool(accuracy < cutoff)


def regret(table: Table, trials: Sequence[Replayed], ended: float = np.inf) -> float:
    """Percentage points between the table's best point and the one that these trials choose.

    As the search does, it chooses by the last accuracy that a trial has, the earliest of equals,
    and trains that point to its end; where that diverges, the next.
    """
    chosen = max(
        (trial for trial in trials if not np.isnan(trial.accuracy_e[-1])),
        key=lambda trial: np.nan_to_num(trial.last_accuracy(ended), nan=-1.0),
    )
    return 100 * float(np.nanmax(table.accuracy_KLEe[..., -1]) - chosen.accuracy_e[-1])
