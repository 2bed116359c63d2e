"""What a run does, as metrics at the endpoints of Ray's nodes, which Prometheus reads.

Ray prefixes their names with `ray_`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import ray
from ray.util.metrics import Counter, Gauge

from distcel.execute.progress import Event, RunBegan, Training, Trial, observed_by, short_point
from distcel.execute.view import View

# Ray reports every ten seconds what was set since the last time, and forgets the rest.
_SECONDS_BETWEEN_EXPORTS = 5.0

_RUN = ("run", "dataset")
_STAGE = (*_RUN, "stage")


@contextmanager
def exported_metrics() -> Iterator[None]:
    """Export the run of this process while the context is open, once Ray is connected.

    A thread does it: the training is not delayed, and does not depend on it.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    ended = threading.Event()
    thread = threading.Thread(target=_export, args=(events, ended), name="metrics", daemon=True)
    thread.start()
    try:
        with observed_by(events.put):
            yield
    finally:
        ended.set()
        thread.join()


def _export(events: SimpleQueue[Event], ended: threading.Event) -> None:
    metrics: _RunMetrics | None = None
    while not ended.wait(_SECONDS_BETWEEN_EXPORTS):
        if ray.is_initialized():
            metrics = metrics or _RunMetrics()  # not before Ray is connected
            while not events.empty():
                metrics.add(events.get())
            metrics.set_gauges()


class _RunMetrics:
    """The metrics of the run that began last."""

    def __init__(self) -> None:
        self.view, self.run = View(time.monotonic()), RunBegan("", "", Path())
        self.trainings = Gauge("distcel_trainings", "Trainings or trials of a stage.", _STAGE)
        self.done = Gauge("distcel_trainings_done", "How many of them are done.", _STAGE)
        self.accuracy = Gauge(
            "distcel_trial_valid_accuracy",
            "A trial's accuracy on valid after its last epoch so far.",
            (*_RUN, "trial", "point"),
        )
        self.samples = Counter(
            "distcel_samples", "Samples that base learners and trials were trained on.", _STAGE
        )
        self.cache = Gauge(
            "distcel_cache_bytes", "Size of the base learners' predictions and weights.", _RUN
        )

    @property
    def tags(self) -> dict[str, str]:
        """The tags of every metric."""
        return {"run": self.run.title, "dataset": self.run.dataset}

    def add(self, event: Event) -> None:
        """Add an event of the run, in their order."""
        self.view = self.view.after(event, time.monotonic())
        if isinstance(event, RunBegan):
            self.run = event
        if isinstance(event, Training | Trial) and event.n_samples:
            stage = self.view.stages[-1].name
            self.samples.inc(event.n_samples, self.tags | {"stage": stage})

    def set_gauges(self) -> None:
        """Set the gauges to the run as it is now."""
        for stage in self.view.stages:
            tags = self.tags | {"stage": stage.name}
            self.trainings.set(stage.n, tags)
            self.done.set(stage.done, tags)
        for trial in self.view.trials.values():
            if trial.valid_accuracy is not None:
                named = {"trial": str(trial.number), "point": short_point(trial.point)}
                self.accuracy.set(trial.valid_accuracy, self.tags | named)
        self.cache.set(_size(self.run.cache), self.tags)


def _size(folder: Path) -> int:
    """The bytes of all files in the folder."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a file that is written is renamed
                size += Path(parent, name).stat().st_size
    return size
