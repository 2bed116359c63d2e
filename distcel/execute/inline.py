"""The executor that is this process: for notebooks, for debugging and for tests."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import torch

from distcel.execute.jobs import Job, Progress, outcomes
from distcel.execute.process import worker_settings
from distcel.execute.progress import Training, TrainingEnded, with_event

logger = logging.getLogger(__name__)


class InlineExecutor:
    """Runs one job after another in this process, without Ray; the same numbers as with it."""

    n_workers = 1

    def share(self, data: Any) -> Any:
        """Return the data itself."""
        return data

    def run(self, jobs: Sequence[Job], shared: Any, kind: str, at_once: int | None = None) -> int:
        """Run the jobs as `Executor.run` describes; no worker can be lost here."""
        del at_once
        missing = [job for job in jobs if not job.is_kept()]
        started = time.monotonic()
        with worker_settings():
            for done, job in enumerate(missing, 1):
                self._run(job, shared)
                report_done(kind, job.title, done, len(missing), time.monotonic() - started)
        return len(missing)

    def _run(self, job: Job, shared: Any) -> None:
        report_begun(job.title)
        for event in outcomes(job.work, shared, inline_device(), job.state()):
            if not isinstance(event, Progress):
                job.keep(event)
                continue
            report_epoch(job.title, event)
            if event.state is not None:
                job.keep_state(event.state)


def inline_device() -> torch.device:
    """The GPU if this machine has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def report_begun(title: str) -> None:
    """Log that a job has a worker."""
    logger.debug("%s: begins", title, extra=with_event(Training(title)))


def report_epoch(title: str, progress: Progress, level: int = logging.DEBUG) -> None:
    """Log an epoch of a job."""
    event = with_event(Training(title, progress.epoch, progress.n_samples))
    line = "%s: epoch %d, loss %.4f"
    logger.log(level, line, title, progress.epoch, progress.train_loss, extra=event)


def report_done(kind: str, title: str, done: int, total: int, seconds: float) -> None:
    """Log that a job's result is kept, and how long the others will take at this rate."""
    left = seconds / done * (total - done)
    line, event = "%s %d/%d %s: %.0f s, %.0f s to go", with_event(TrainingEnded(title))
    logger.info(line, kind, done, total, title, seconds, left, extra=event)
