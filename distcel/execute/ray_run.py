"""One run of a list of jobs on actors, until all of them have ended."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from distcel.execute.inline import report_begun, report_done, report_epoch
from distcel.execute.jobs import Job, Progress
from distcel.execute.progress import TrainingEnded, with_event
from distcel.execute.ray_errors import is_lost, lost_too_often, raise_cause
from distcel.execute.ray_worker import Worker
from distcel.experiment.errors import RunFailedError
from distcel.storage.provenance import library_versions

if TYPE_CHECKING:
    from distcel.execute.ray_executor import RayExecutor, Shared

logger = logging.getLogger(__name__)

MAX_LOSSES = 5  # lost workers of the same job, without a new state in between
_SECONDS_BETWEEN_EPOCH_LINES = 10
_SECONDS_OF_A_WAIT = 1.0
_MAX_UNREAD_EVENTS = 8  # per actor: each may hold a state of some hundred megabytes
# A worker is silent after this many times the longest wait for an event so far, and at least so
# many seconds: another node may be slower, and after the last epoch all splits are predicted.
_SILENT_EPOCHS = 10
_LEAST_SILENT_SECONDS = 60.0

_WorkerActor = ray.remote(Worker)


@dataclass
class _Running:
    """A job on an actor, when its last event came, and whether its silence was logged."""

    actor: Any
    job: Job
    last_event: float
    silent: bool = False


class Run:
    """Jobs that run on actors until all of them have ended."""

    def __init__(
        self, executor: RayExecutor, jobs: Sequence[Job], shared: Shared, kind: str
    ) -> None:
        self.executor, self.shared, self.kind = executor, shared, kind
        self.pending, self.n_jobs, self.n_done = deque(jobs), len(jobs), 0
        self.losses: Counter[str] = Counter()
        self.failed_starts = 0
        self.failure: RunFailedError | None = None
        self.starting: dict[Any, Any] = {}
        self.idle: list[Any] = []
        self.running: dict[Any, _Running] = {}
        self.places: dict[Any, str] = {}
        self.n_fewer = 0
        self.longest_wait: float | None = None  # for an event; None before the first epoch
        self.started = self.last_line = time.monotonic()

    def run_all(self, at_once: int) -> None:
        """Run all jobs, at most so many at once; raises what `Executor.run` describes."""
        while self.pending or self.running:
            self._adjust_actors(at_once)
            self._assign()
            source = first_ready([*self.running, *self.starting])
            if source in self.starting:
                self._actor_started(source)
            elif source is not None:
                self._take_event(source)
            self._replace_silent()
        if self.failure:
            raise self.failure

    def stop_actors(self) -> None:
        """Kill the actors, whatever they are doing."""
        busy = [running.actor for running in self.running.values()]
        for actor in [*self.idle, *busy, *self.starting.values()]:
            ray.kill(actor)

    def _adjust_actors(self, at_once: int) -> None:
        """Start actors for which there is room and work, those of lost ones and of new nodes too.

        Where nodes have left, actors that wait for them are given up.
        """
        n_left = min(len(self.pending) + len(self.running), at_once)
        size = max(1, self.executor.current_pool(n_left).size - self.n_fewer)
        n_actors = len(self.idle) + len(self.running) + len(self.starting)
        for _ in range(n_actors, min(size, n_left)):
            self._start_actor()
        for _ in range(min(len(self.starting), n_actors - size)):
            ray.kill(self.starting.popitem()[1])

    def _start_actor(self) -> None:
        pool, n_actors = self.executor.pool, self.executor.n_actors
        n_actors[self.kind] += 1
        name = f"{self.kind.replace(' ', '-')}s-{n_actors[self.kind]}"
        options = _WorkerActor.options(
            name=name,
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus,
            label_selector=pool.label_selector,
        )
        actor = options.remote(self.shared.reference, library_versions())
        self.starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def _actor_started(self, ready: Any) -> None:
        actor = self.starting.pop(ready)
        try:
            self.places[actor] = ray.get(ready)
            self.idle.append(actor)
            self.failed_starts = 0
        except ray.exceptions.RayError as error:
            self._worker_lost(actor, None, error)

    def _assign(self) -> None:
        while self.pending and self.idle:
            actor, job = self.idle.pop(), self.pending.popleft()
            task = actor.run.options(
                num_returns="streaming",
                name=job.title,
                _generator_backpressure_num_objects=_MAX_UNREAD_EVENTS,
            )
            stream = task.remote(job.title, job.work, job.state())
            self.running[stream] = _Running(actor, job, time.monotonic())
            report_begun(job.title)

    def _take_event(self, stream: Any) -> None:
        running = self.running[stream]
        actor, job = running.actor, running.job
        try:
            event = ray.get(next(stream))
        except StopIteration:
            del self.running[stream]
            self.idle.append(actor)
        except ray.exceptions.RayError as error:
            del self.running[stream]
            if is_lost(error):
                self._worker_lost(actor, job, error)
            else:
                self._job_failed(actor, job, error)
        else:
            if isinstance(event, Progress):
                self._epoch_done(job, event)
                self._note_wait(running)
            else:
                job.keep(event)
                self._job_ended(job)

    def _note_wait(self, running: _Running) -> None:
        now = time.monotonic()
        self.longest_wait = max(self.longest_wait or 0.0, now - running.last_event)
        running.last_event = now
        if running.silent:
            running.silent = False
            logger.info("%s: its worker goes on", running.job.title)

    def _replace_silent(self) -> None:
        """Log which job's worker is silent, and replace it after twice that time.

        A worker that hangs is killed, and nothing that it might still send is read.
        """
        if self.longest_wait is None:  # no epoch has shown how long one takes
            return
        limit = max(_SILENT_EPOCHS * self.longest_wait, _LEAST_SILENT_SECONDS)
        for stream, running in [*self.running.items()]:
            seconds, title = time.monotonic() - running.last_event, running.job.title
            if seconds > limit and not running.silent:
                running.silent = True
                where = self.places[running.actor]
                line = "%s: its worker on node %s is silent for %.0f s; epochs took %.1f s at most"
                logger.warning(line, title, where, seconds, self.longest_wait)
            elif seconds > 2 * limit:
                del self.running[stream]
                silence = RunFailedError(f"its worker was silent for {seconds:.0f} s")
                self._worker_lost(running.actor, running.job, silence)

    def _epoch_done(self, job: Job, progress: Progress) -> None:
        if progress.state is not None:
            job.keep_state(progress.state)
            self.losses[job.title] = 0
        now, level = time.monotonic(), logging.DEBUG
        if now - self.last_line > _SECONDS_BETWEEN_EPOCH_LINES:
            self.last_line, level = now, logging.INFO
        report_epoch(job.title, progress, level)

    def _job_ended(self, job: Job) -> None:
        self.n_done += 1
        seconds = time.monotonic() - self.started
        report_done(self.kind, job.title, self.n_done, self.n_jobs, seconds)

    def _job_failed(self, actor: Any, job: Job, error: ray.exceptions.RayError) -> None:
        """Keep an error of a known cause until the other jobs have run; raise a defect at once."""
        self.idle.append(actor)
        try:
            raise_cause(error, job.title)
        except RunFailedError as failure:
            self.failure = self.failure or failure

    def _worker_lost(self, actor: Any, job: Job | None, error: Exception) -> None:
        """Put the job back; `_adjust_actors` then starts another actor."""
        ray.kill(actor)
        self.places.pop(actor, None)
        self.executor.look_again()
        others = self.running or self.idle or self.starting
        if job is None:
            self._start_failed(bool(others), error)
            return
        left = with_event(TrainingEnded(job.title, is_kept=False))
        logger.debug("%s: has no worker now", job.title, extra=left)
        if job.is_kept():  # it was lost just after it had sent its result
            logger.warning("%s: worker lost after the result, another takes its place", job.title)
        elif isinstance(error, ray.exceptions.OutOfMemoryError) and others:
            logger.warning("%s: node low on memory, continuing with one worker fewer", job.title)
            self.pending.appendleft(job)
            self.n_fewer += 1
        else:
            self._count_loss(job, error)
            logger.warning("%s: worker lost, another one takes its place", job.title)

    def _count_loss(self, job: Job, error: Exception) -> None:
        """Run the job again, or give it up, which ends the run after the other jobs."""
        self.losses[job.title] += 1
        if self.losses[job.title] < MAX_LOSSES:
            self.pending.appendleft(job)
        else:
            self.failure = self.failure or lost_too_often(job.title, MAX_LOSSES, error)

    def _start_failed(self, has_others: bool, error: Exception) -> None:
        """Start another worker; after MAX_LOSSES in a row, continue with the others or fail."""
        title = f"start of a worker, {self.kind}"
        self.failed_starts += 1
        if self.failed_starts < MAX_LOSSES:
            logger.warning("%s: worker lost, another one takes its place", title)
        elif has_others:
            logger.warning("%s: worker lost %d times, continuing without it", title, MAX_LOSSES)
            self.n_fewer += 1
        else:
            raise lost_too_often(title, MAX_LOSSES, error)


def first_ready(sources: Sequence[Any]) -> Any:
    """Wait a second for the first of the streams or references that is ready, None if none is.

    The wait is short: an exception in a signal's handler is raised only when a wait ends.
    """
    ready, _ = ray.wait(list(sources), num_returns=1, timeout=_SECONDS_OF_A_WAIT)
    return ready[0] if ready else None
