"""What a run does, as events beside the messages of its log.

Whoever shows a run handles the records of the logger `distcel`: `event_of` gives the event of a
record, whose message says the same in words. Events that have no line of their own are DEBUG.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunBegan:
    """A run begins: a search, or a seed of a reproduction."""

    title: str


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
    """A training of the stage has begun (epoch 0), or has done an epoch."""

    title: str
    epoch: int = 0


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
    """

    number: int
    state: str
    n_epochs: int
    valid_accuracy: float | None
    point: Mapping[str, Any]


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


def with_event(event: Event) -> dict[str, Event]:
    """The argument `extra` of a logger's method, for a record with this event."""
    return {"distcel_event": event}


def event_of(record: logging.LogRecord) -> Event | None:
    """The event of a record, if it has one."""
    event: Event | None = getattr(record, "distcel_event", None)
    return event
