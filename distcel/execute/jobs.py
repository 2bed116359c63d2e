"""Jobs, what they bring back, and what every executor does with them.

An executor runs jobs on workers, keeps what each brings back the moment it does, and survives lost
workers. `RayExecutor` has workers on a Ray cluster, `InlineExecutor` is this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from distcel.experiment.errors import DivergedError


@dataclass(frozen=True)
class Progress:
    """An epoch of a training is done.

    Attributes:
        epoch: counted from 1.
        train_loss: mean cross entropy in nats.
        state: what the training can be resumed from; None where it is not due.
    """

    epoch: int
    train_loss: float
    state: bytes | None = None


@dataclass(frozen=True)
class Failed:
    """What comes back in place of a result where a training diverged."""

    reason: str


# A training on a worker: from the shared data, a device and the state of an earlier attempt to
# progress and, last, the result. It may raise DivergedError.
Work = Callable[[Any, torch.device, bytes | None], Iterator[Any]]


class Job(Protocol):
    """One training: its work goes to a worker, the rest of it stays with the driver.

    Attributes:
        title: what the job is called in the log and in the Ray dashboard.
        work: the training; it is pickled.
    """

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def work(self) -> Work: ...  # noqa: D102

    def is_kept(self) -> bool:
        """Whether its result is on disk, intact."""
        ...

    def state(self) -> bytes | None:
        """The kept state of an interrupted attempt, if any."""
        ...

    def keep_state(self, state: bytes) -> None:
        """Put the state on disk in place of an earlier one."""
        ...

    def keep(self, result: Any) -> None:
        """Put the result on disk; it may be `Failed`.

        Raises:
            RunFailedError: the run can't go on without a result.
        """
        ...


class Executor(Protocol):
    """Where jobs run.

    Attributes:
        n_workers: how many jobs run at once.
    """

    @property
    def n_workers(self) -> int: ...  # noqa: D102

    def share(self, data: Any) -> Any:
        """Put data where every worker reads it; returns what `run` takes as `shared`."""
        ...

    def run(self, jobs: Sequence[Job], shared: Any, kind: str, at_once: int | None = None) -> int:
        """Run the jobs whose results are not kept yet, in their order; returns how many these were.

        Args:
            jobs: the longest first, so that no worker waits for the last one.
            shared: what `share` returned.
            kind: what a job is, for the log and for the workers' names: `base learner`, say.
            at_once: how many run at once at most; None is as many as there are workers.

        Raises:
            RunFailedError: workers were lost 5 times over the same job without a new state in
                between; on Ray the other jobs are run and kept first.
            Exception: what a job raises that is none of these, a defect, at once.
        """
        ...


def outcomes(work: Work, shared: Any, device: torch.device, state: bytes | None) -> Iterator[Any]:
    """What a worker sends back: progress and, last, the result or `Failed`."""
    try:
        yield from work(shared, device, state)
    except DivergedError as error:
        yield Failed(str(error))
