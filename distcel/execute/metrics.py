"""What a run does, as metrics at the endpoints of Ray's nodes, which Prometheus reads.

Ray prefixes their names with `ray_`, and brings them up to date every ten seconds.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import ray
from ray.util.metrics import Counter, Gauge

from distcel.execute.progress import (
    Event,
    RunBegan,
    SearchBegan,
    StageBegan,
    Training,
    Trial,
    short_point,
)
from distcel.execute.view import View

_SECONDS_BETWEEN_SIZES = 10.0  # of a folder with thousands of files


class RunMetrics:
    """Exports the runs of this process from their events, as soon as Ray is connected."""

    def __init__(self) -> None:
        self._view, self._run = View(time.monotonic()), RunBegan("", "", Path())
        self._is_exported, self._last_size = False, -math.inf

    def __call__(self, event: Event) -> None:
        """Export what the event changes."""
        self._view = self._view.after(event, time.monotonic())
        if isinstance(event, RunBegan):
            self._run = event
        if not ray.is_initialized():
            return
        metrics, run = self._metrics, {"run": self._run.title, "dataset": self._run.dataset}
        for stage in self._view.stages:
            tags = run | {"stage": stage.name}
            metrics.trainings.set(stage.n, tags)
            metrics.done.set(stage.done, tags)
        for trial in self._changed(event):
            if trial.valid_accuracy is not None:
                tags = run | {"trial": str(trial.number), "point": short_point(trial.point)}
                metrics.accuracy.set(trial.valid_accuracy, tags)
        if isinstance(event, Training | Trial) and event.n_samples:
            stage_name = self._view.stages[-1].name
            metrics.samples.inc(event.n_samples, run | {"stage": stage_name})
        now = time.monotonic()
        if isinstance(event, StageBegan) or now - self._last_size > _SECONDS_BETWEEN_SIZES:
            self._last_size = now
            metrics.cache.set(_size(self._run.cache), run)
        self._is_exported = True

    def _changed(self, event: Event) -> Iterable[Trial]:
        """The trials to export: before the first time, and at its start, all of a search."""
        if not self._is_exported or isinstance(event, SearchBegan):
            return self._view.trials.values()
        return [event] if isinstance(event, Trial) else []

    @cached_property
    def _metrics(self) -> _Metrics:
        return _Metrics()  # not before Ray is connected


class _Metrics:
    def __init__(self) -> None:
        run = ("run", "dataset")
        of_stage = (*run, "stage")
        self.trainings = Gauge("distcel_trainings", "Trainings or trials of a stage.", of_stage)
        self.done = Gauge("distcel_trainings_done", "How many of them are done.", of_stage)
        self.accuracy = Gauge(
            "distcel_trial_valid_accuracy",
            "A trial's accuracy on valid after its last epoch so far.",
            (*run, "trial", "point"),
        )
        self.samples = Counter(
            "distcel_samples", "Samples that base learners and trials were trained on.", of_stage
        )
        self.cache = Gauge(
            "distcel_cache_bytes", "Size of the base learners' predictions and weights.", run
        )


def _size(folder: Path) -> int:
    """The bytes of all files in the folder."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a file that is written is renamed
                size += Path(parent, name).stat().st_size
    return size
