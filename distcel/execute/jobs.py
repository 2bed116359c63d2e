"""Jobs, what they return, and the interface of the executors that run them.

An executor runs jobs on workers, keeps what each returns the moment it returns, and survives lost
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
        n_samples: number of samples of the epoch; 0 where they are not counted.
    """

    epoch: int
    train_loss: float
    state: bytes | None = None
    n_samples: int = 0


@dataclass(frozen=True)
class Failed:
    """Returned in place of a result by a training that diverged."""

    reason: str


# A training on a worker. It takes the shared data, a device and the state of an earlier attempt. It
# yields progress and, last, the result, and may raise DivergedError.
Work = Callable[[Any, torch.device, bytes | None], Iterator[Any]]


class Job(Protocol):
    """One training: its work is sent to a worker, the rest stays with the driver.

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
            RunFailedError: the run cannot continue without a result.
        """
        ...


class Executor(Protocol):
    """Runs jobs on workers.

    Attributes:
        n_workers: how many jobs run at once.
    """

    @property
    def n_workers(self) -> int: ...  # noqa: D102

    def share(self, data: Any) -> Any:
        """Put data where every worker can read it; returns the argument `shared` of `run`."""
        ...

    def run(self, jobs: Sequence[Job], shared: Any, kind: str, at_once: int | None = None) -> int:
        """Run the jobs whose results are not kept yet, in their order; returns their number.

        Args:
            jobs: the longest first, so that no worker waits for the last one.
            shared: what `share` returned.
            kind: what a job trains, such as `base learner`; for the log and the workers' names.
            at_once: how many run at once at most; None is as many as there are workers.

        Raises:
            RunFailedError: a job lost its worker 5 times without a new state in between, or 5
                workers in a row did not start; on Ray the other jobs are run and kept first.
            Exception: any other exception of a job, which is a defect, at once.
        """
        ...


def outcomes(work: Work, shared: Any, device: torch.device, state: bytes | None) -> Iterator[Any]:
    """What a worker sends back: progress and, last, the result or `Failed`."""
    try:
        yield from work(shared, device, state)
    except DivergedError as error:
        yield Failed(str(error))
