"""What a run does, as events beside the messages of its log.

Who shows the log handles the records of the logger `distcel`: `event_of` gives the event of a
record, whose message says the same in words. Events that have no line of their own are DEBUG. Who
needs every event, whatever the level of the log is, observes them by `observed_by`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunBegan:
    """A run begins: a search, or a seed of a reproduction.

    Attributes:
        title: the name of the run.
        dataset: the name of its data set.
        cache: the folder of its base learners' predictions.
    """

    title: str
    dataset: str
    cache: Path


@dataclass(frozen=True)
class StageBegan:
    """A stage of the run begins.

    Attributes:
        name: such as `base learners`.
        n: number of its trainings; 0 if it has none.
        done: how many of them earlier launches have left.
    """

    name: str
    n: int = 0
    done: int = 0


@dataclass(frozen=True)
class Training:
    """A training of the stage has begun (epoch 0), or has done an epoch, on so many samples."""

    title: str
    epoch: int = 0
    n_samples: int = 0


@dataclass(frozen=True)
class TrainingEnded:
    """A training has left its worker; its result is kept, unless the worker was lost."""

    title: str
    is_kept: bool = True


@dataclass(frozen=True)
class Trial:
    """A trial as it is now.

    Attributes:
        number: counted from 0.
        state: RUNNING, COMPLETE or FAILED.
        n_epochs: epochs so far.
        valid_accuracy: after the last of them, a fraction; None before the first.
        point: its hyperparameters.
        n_samples: number of samples of the epoch that this event tells of; 0 where it tells of
            none.
    """

    number: int
    state: str
    n_epochs: int
    valid_accuracy: float | None
    point: Mapping[str, Any]
    n_samples: int = 0


@dataclass(frozen=True)
class SearchBegan:
    """The stage of the trials begins.

    Attributes:
        n: number of trials in all.
        max_epochs: epochs of a trial that is not stopped early.
        seconds: the time budget of this launch; infinite if there is none.
        trials: those of earlier launches.
    """

    n: int
    max_epochs: int
    seconds: float
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Address:
    """Where the run can be watched: a dashboard, a tracker."""

    name: str
    where: str


Event = RunBegan | StageBegan | Training | TrainingEnded | Trial | SearchBegan | Address


_SHORT_POINT = ("k", "epsilon", "lr")
_observers: list[Callable[[Event], None]] = []


@contextmanager
def observed_by(observer: Callable[[Event], None]) -> Iterator[None]:
    """Call the observer with every event while the context is open; it must be fast."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def with_event(event: Event) -> dict[str, Event]:
    """Call the observers; returns the argument `extra` of a logger's method, for the record."""
    for observer in _observers:
        observer(event)
    return {"distcel_event": event}


def event_of(record: logging.LogRecord) -> Event | None:
    """The event of a record, if it has one."""
    event: Event | None = getattr(record, "distcel_event", None)
    return event


def short_point(point: Mapping[str, Any]) -> str:
    """The hyperparameters that tell trials apart, in a few words."""
    return " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in point.items()
        if name in _SHORT_POINT
    )
