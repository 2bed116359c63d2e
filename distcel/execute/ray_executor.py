"""The executor on a Ray cluster: reused actors, each with a core or a share of a GPU.

Actors stream their progress and results to the driver, which alone writes files: no shared file
system is needed. An actor that is lost is replaced, and its job continues from its last kept state.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NoReturn

import ray
import torch

from distcel.execute.inline import report_done
from distcel.execute.jobs import Job, Progress, Work, outcomes
from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import InvalidInputError, RunFailedError

logger = logging.getLogger(__name__)

MAX_LOSSES = 5  # lost workers of the same job, without a new state in between
_SECONDS_BETWEEN_EPOCH_LINES = 10
_SECONDS_OF_A_WAIT = 1.0
_MAX_UNREAD_EVENTS = 8  # per actor: each may hold a state of some hundred megabytes


class RayExecutor:
    """Runs jobs on actors of a Ray cluster.

    Args:
        find_pool: connects to Ray where this process is not connected yet; returns how many actors
            run at once, and what each of them holds of a node. It is called when the first job
            runs.
    """

    def __init__(self, find_pool: Callable[[], WorkerPool]) -> None:
        self._find_pool = find_pool
        self.n_actors: Counter[str] = Counter()

    @cached_property
    def pool(self) -> WorkerPool:
        """How many actors run at once, and what each of them holds of a node."""
        return self._find_pool()

    @property
    def n_workers(self) -> int:
        """How many actors run at once."""
        return self.pool.size

    def share(self, data: Any) -> Shared:
        """The data, which goes to Ray's object store when the first job needs it."""
        return Shared(self, data)

    def run(
        self, jobs: Sequence[Job], shared: Shared, kind: str, at_once: int | None = None
    ) -> int:
        """Run the jobs as `Executor.run` describes."""
        missing = [job for job in jobs if not job.is_kept()]
        if missing:
            size = min(self.pool.size, len(missing), at_once or len(missing))
            run = _Run(self, missing, shared, kind)
            try:
                run.run_all(size)
            finally:
                run.stop_actors()
        return len(missing)


class Shared:
    """Data that every worker of an executor can read.

    Args:
        executor: connects to Ray.
        data: what is shared.
    """

    def __init__(self, executor: RayExecutor, data: Any) -> None:
        self._executor, self._data = executor, data

    @cached_property
    def reference(self) -> Any:
        """The reference to the data in Ray's object store, which has it once."""
        _ = self._executor.pool  # connects to Ray
        return ray.put(self._data)


class Worker:
    """Runs one job after another on the shared data."""

    def __init__(self, shared: Any) -> None:
        torch.set_num_threads(1)  # one process a core, and sums in the same order on every machine
        self.shared = shared
        self.device = worker_device()

    def ready(self) -> None:
        """Return once the actor runs: until then it gets no job."""

    def run(self, title: str, work: Work, state: bytes | None) -> Iterator[Any]:
        """Yield the job's `jobs.outcomes`; the Ray dashboard shows what is printed here."""
        for event in outcomes(work, self.shared, self.device, state):
            if isinstance(event, Progress):
                print(f"{title}: epoch {event.epoch}, loss {event.train_loss:.4f}", flush=True)
            yield event


_WorkerActor = ray.remote(Worker)


class _Run:
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
        self.running: dict[Any, tuple[Any, Job]] = {}
        self.started = self.last_line = time.monotonic()

    def run_all(self, n_actors: int) -> None:
        for _ in range(n_actors):
            self._start_actor()
        while self.pending or self.running:
            self._assign()
            source = first_ready([*self.running, *self.starting])
            if source in self.starting:
                self._actor_started(source)
            else:
                self._take_event(source)
        if self.failure:
            raise self.failure

    def stop_actors(self) -> None:
        busy = [actor for actor, _ in self.running.values()]
        for actor in [*self.idle, *busy, *self.starting.values()]:
            ray.kill(actor)

    def _start_actor(self) -> None:
        pool, n_actors = self.executor.pool, self.executor.n_actors
        n_actors[self.kind] += 1
        name = f"{self.kind.replace(' ', '-')}s-{n_actors[self.kind]}"
        options = _WorkerActor.options(name=name, num_cpus=pool.num_cpus, num_gpus=pool.num_gpus)
        actor = options.remote(self.shared.reference)
        self.starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def _actor_started(self, ready: Any) -> None:
        actor = self.starting.pop(ready)
        try:
            ray.get(ready)
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
            self.running[task.remote(job.title, job.work, job.state())] = actor, job

    def _take_event(self, stream: Any) -> None:
        actor, job = self.running[stream]
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
            else:
                job.keep(event)
                self._job_ended(job)

    def _epoch_done(self, job: Job, progress: Progress) -> None:
        if progress.state is not None:
            job.keep_state(progress.state)
            self.losses[job.title] = 0
        now = time.monotonic()
        if now - self.last_line > _SECONDS_BETWEEN_EPOCH_LINES:
            self.last_line = now
            logger.info("%s: epoch %d, loss %.4f", job.title, progress.epoch, progress.train_loss)

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

    def _worker_lost(self, actor: Any, job: Job | None, error: ray.exceptions.RayError) -> None:
        ray.kill(actor)
        others = self.running or self.idle or self.starting
        if job is None:
            self._start_failed(bool(others), error)
            return
        if job.is_kept():  # it was lost just after it had sent its result
            logger.warning("%s: worker lost after the result, another takes its place", job.title)
        elif isinstance(error, ray.exceptions.OutOfMemoryError) and others:
            logger.warning("%s: node low on memory, continuing with one worker fewer", job.title)
            self.pending.appendleft(job)
            return
        else:
            self._count_loss(job, error)
            logger.warning("%s: worker lost, another one takes its place", job.title)
        self._start_actor()

    def _count_loss(self, job: Job, error: ray.exceptions.RayError) -> None:
        """Run the job again, or give it up, which ends the run after the other jobs."""
        self.losses[job.title] += 1
        if self.losses[job.title] < MAX_LOSSES:
            self.pending.appendleft(job)
        else:
            self.failure = self.failure or lost_too_often(job.title, error)

    def _start_failed(self, has_others: bool, error: ray.exceptions.RayError) -> None:
        """Start another worker; after MAX_LOSSES in a row, continue with the others or fail."""
        title = f"start of a worker, {self.kind}"
        self.failed_starts += 1
        if self.failed_starts < MAX_LOSSES:
            logger.warning("%s: worker lost, another one takes its place", title)
            self._start_actor()
        elif has_others:
            logger.warning("%s: worker lost %d times, continuing without it", title, MAX_LOSSES)
        else:
            raise lost_too_often(title, error)


def worker_device() -> torch.device:
    """The device of the actor or trial that this is called in: its GPU if Ray gave it one."""
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda" if has_gpu else "cpu")


def first_ready(sources: Sequence[Any]) -> Any:
    """Wait for the first of the streams or references that is ready.

    The waits are short: an exception in a signal's handler is raised only when a wait ends.
    """
    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait(list(sources), num_returns=1, timeout=_SECONDS_OF_A_WAIT)
    return ready[0]


def is_lost(error: ray.exceptions.RayError) -> bool:
    """Whether Ray lost a worker, a node or an object, so that the job may succeed elsewhere."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return isinstance(cause, ray.exceptions.RayError)


def lost_too_often(title: str, error: ray.exceptions.RayError) -> RunFailedError:
    """The error after MAX_LOSSES lost workers."""
    reason = reason_of(str(error))
    return RunFailedError(f"{title}: worker lost {MAX_LOSSES} times, the last time: {reason}")


def reason_of(text: str) -> str:
    """Why a worker was lost or a trial failed, in one line of what Ray reports at length."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    out_of_memory = [line for line in lines if "low on memory" in line]
    return (out_of_memory or lines[-1:])[0].partition(" Some common causes")[0]


def raise_cause(error: ray.exceptions.RayError, title: str) -> NoReturn:
    """Raise the cause of an error on a worker: one line if known, else with its traceback.

    Args:
        error: the error that Ray reports; no worker was lost.
        title: the title of the job, for the message.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, torch.OutOfMemoryError):
        remedy = "give a larger --gpus-per-worker"
        raise RunFailedError(f"{title}: its GPU has too little memory: {remedy}") from None
    if isinstance(cause, (RunFailedError, InvalidInputError)):
        raise cause from None
    raise error
