"""Replays a search on a table of `benchmarks.sampler_table`, without training.

A search begins with the preset's first trial and has two workers, as on two cores: a sampler
proposes while another trial runs. A proposal has the accuracies that bilinear interpolation gives
at its lr and epsilon, on logarithmic scales. Where the space has a k, an epoch's accuracy is lower
by as much as that k is below the best one after the last epoch. This is an approximation: a net
that is trained for that k alone has another accuracy. m and the gradient, where the space has them,
change nothing: they show what a sampler makes of dimensions that do not matter.
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
_AXES = ("lr", "epsilon")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Valid accuracies of a grid of lr and epsilon.

    Attributes:
        axes: the values of either, ascending.
        accuracy_LEe: by epoch at the best k, NaN from the epoch in which a training diverged.
        over_k_LEN: after the last epoch, by k; NaN where a training diverged.
    """

    axes: Mapping[str, Array]
    accuracy_LEe: Array
    over_k_LEN: Array

    @staticmethod
    def read(path: Path) -> tuple[Table, dict[str, Any]]:
        """The table, and the facts beside its points."""
        facts = json.loads(path.read_text())
        points, n_epochs = facts.pop("points"), facts["recipe"]["epochs"]
        axes = {name: np.unique([point[name] for point in points]) for name in _AXES}
        shape = [len(axis) for axis in axes.values()]
        accuracy = np.full([*shape, n_epochs], np.nan)
        over_k = np.full([*shape, facts["n_learners"]], np.nan)
        for point in points:
            where = tuple(np.searchsorted(axes[name], point[name]) for name in _AXES)
            accuracy[where][: len(point["valid_accuracy"])] = point["valid_accuracy"]
            over_k[where][: len(point["over_k"])] = point["over_k"]
        return Table(axes, accuracy, over_k), facts

    @property
    def best(self) -> float:
        """The highest accuracy after the last epoch."""
        return float(np.nanmax(self.accuracy_LEe[..., -1]))

    def at(self, params: Mapping[str, Any]) -> Array:
        """The accuracies by epoch of a point, NaN from the epoch in which a neighbour diverged."""
        accuracy_e, over_k_N = (
            self._interpolated(values, params) for values in (self.accuracy_LEe, self.over_k_LEN)
        )
        if params["k"] == "any":
            return accuracy_e
        return np.asarray(accuracy_e - (over_k_N.max() - over_k_N[params["k"] - 1]))

    def _interpolated(self, values: Array, params: Mapping[str, Any]) -> Array:
        for name in _AXES:
            axis, value = np.log(self.axes[name]), np.log(params[name])
            low = min(max(int(np.searchsorted(axis, value)) - 1, 0), len(axis) - 2)
            share = np.clip((value - axis[low]) / (axis[low + 1] - axis[low]), 0, 1)
            values = (1 - share) * values[low] + share * values[low + 1]
        return values


@dataclass
class Replayed:
    """One trial: its accuracies, the table's last one, when it began, and how many epochs it ran.

    The unit of time is an epoch: the trial's first one ends at `began + 1`.
    """

    trial: optuna.Trial
    accuracy_e: Array
    final: float
    began: int
    n_epochs: int = 0

    def last_accuracy(self, ended: float) -> float:
        """After the last epoch that has ended by then; NaN before the first, or once diverged."""
        n_epochs = int(min(self.n_epochs, ended - self.began))
        return float(self.accuracy_e[n_epochs - 1]) if n_epochs > 0 else float("nan")


def replay(
    table: Table, settings: SearchSettings, sampler: BaseSampler, noise: float, until: float
) -> list[Replayed]:
    """All trials of one search; those among the lower two thirds at the rung are stopped there.

    Args:
        table: of accuracies.
        settings: the space, the first trial, the epochs and the number of trials.
        sampler: that proposes the points.
        noise: standard deviation of what each trial's accuracies are off by, all alike.
        until: the time before which further trials begin, beyond the number of the settings.
    """
    generator = np.random.default_rng(settings.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(settings.first.as_dict())
    trials: list[Replayed] = []
    running: list[Replayed] = []
    at_rung: list[float] = []
    now = 0
    while running or len(trials) < settings.num_samples or now < until:
        while len(running) < N_WORKERS and (len(trials) < settings.num_samples or now < until):
            trial = study.ask(settings.space)
            true_e = table.at(trial.params)
            seen_e = true_e + generator.normal(0, noise)
            running.append(Replayed(trial, seen_e, float(true_e[-1]), now))
            trials.append(running[-1])
        now += 1
        for replayed in [*running]:
            replayed.n_epochs += 1
            accuracy = float(replayed.accuracy_e[replayed.n_epochs - 1])
            ended = replayed.n_epochs == settings.max_epochs
            if not ended and replayed.n_epochs == settings.rung:
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
    and trains that point to its end; where that diverges, the next. Noise may change the
    choice, and is not in the regret.
    """
    chosen = max(
        (trial for trial in trials if not np.isnan(trial.accuracy_e[-1])),
        key=lambda trial: np.nan_to_num(trial.last_accuracy(ended), nan=-1.0),
    )
    return 100 * (table.best - chosen.final)
