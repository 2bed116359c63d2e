"""Has rules trained by Ray's workers, all at once, and keeps what comes of it.

`FOLDER/<title>-<key>.safetensors` is a rule's network, or `.diverged` says how it has none; while
it is trained, `.state` is what its training can go on from. The driver alone writes files: workers
need no shared file system.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from torch import Tensor

from distcel.execute.pool import WorkerPool
from distcel.execute.workers import (
    MAX_DEATHS,
    died_too_often,
    first_ready,
    is_lost,
    raise_cause,
    worker_device,
)
from distcel.experiment.errors import RunFailedError
from distcel.search.selection import SelectionTask, TaskRef
from distcel.storage.files import (
    content_key,
    is_intact,
    read_sealed,
    write_checked,
    write_sealed,
)
from distcel.train.cache import CachedSplit
from distcel.train.learner import Progress
from distcel.train.loop import DivergedError
from distcel.train.trained_network import TrainedNetwork

# Part of the name of every trained rule's file. Raise it with every change that gives one of them
# other numbers in the same search folder. tests/train/test_golden.py fails where it was forgotten.
CACHE_VERSION = 1


class TrainableRule(Protocol):
    """A rule that is a trained network; a frozen dataclass whose fields are JSON."""

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        """Yields progress that brings a state to go on from, if any, and at its end the network.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
        """
        ...

    def predict(self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit) -> Tensor:
        """Class probabilities for every sample of the split, shape (S, C)."""
        ...


def train_missing(
    rules: Mapping[str, TrainableRule], task: TaskRef, pool: WorkerPool, folder: Path
) -> dict[str, TrainedNetwork | DivergedError]:
    """Train the rules of which no intact network is kept; returns all of them.

    Args:
        rules: by title, the longest training first: Ray starts them in this order, as many at
            once as there are resources.
        task: what they are trained on, in Ray's object store.
        pool: the resources of each worker.
        folder: where the networks are kept; whoever gives it answers for the task being the same.

    Returns:
        dict: by title; of a rule that diverges, which is said, how.

    Raises:
        RunFailedError: workers died 5 times over the same rule without a state in between; the
            other rules are trained and kept first.
    """
    paths = {title: folder / _file_name(title, rule) for title, rule in rules.items()}
    missing = [
        _Job(title, rule, task, pool, paths[title])
        for title, rule in rules.items()
        if not (is_intact(paths[title]) or is_intact(_diverged_path(paths[title])))
    ]
    _Trainings(missing).run()
    return {title: _kept(path) for title, path in paths.items()}


def _kept(path: Path) -> TrainedNetwork | DivergedError:
    if path.exists():
        return TrainedNetwork.from_bytes(path.read_bytes())
    print(reason := _diverged_path(path).read_text())
    return DivergedError(reason)


def _diverged_path(path: Path) -> Path:
    return path.with_suffix(".diverged")


def _file_name(title: str, rule: TrainableRule) -> str:
    key = content_key([type(rule).__name__, asdict(rule), CACHE_VERSION, torch.__version__])  # type: ignore[call-overload]
    return f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}-{key}.safetensors"


def _train_on_worker(
    rule: TrainableRule, task: SelectionTask, state: bytes | None
) -> Iterator[Progress | TrainedNetwork]:
    torch.set_num_threads(1)  # one process a core
    yield from rule.train(task, worker_device(), state)


@dataclass(frozen=True)
class _Job:
    title: str
    rule: TrainableRule
    task: TaskRef
    pool: WorkerPool
    path: Path

    @property
    def _state_path(self) -> Path:
        return self.path.with_suffix(".state")

    def start(self) -> Any:
        """Submit it, to go on from its last state."""
        # Ray ends a worker, and so frees its GPU, after a task of which it is told here of the GPU.
        with_resources = ray.remote(
            max_retries=0, num_cpus=self.pool.num_cpus, num_gpus=self.pool.num_gpus
        )
        task: Any = with_resources(_train_on_worker)
        named = task.options(num_returns="streaming", name=self.title)
        return named.remote(self.rule, self.task, read_sealed(self._state_path))

    def keep(self, event: Progress | TrainedNetwork) -> bool:
        """Keep what it brings; returns whether it is more than a sign of life."""
        if isinstance(event, TrainedNetwork):
            content = event.to_bytes()
            write_checked(self.path, lambda file: file.write(content))
            self._state_path.unlink(missing_ok=True)
        elif event.state is not None:
            write_sealed(self._state_path, event.state)
            print(f"{self.title}: epoch {event.epoch}, loss {event.train_loss:.4f}")
        return isinstance(event, TrainedNetwork) or event.state is not None

    def keep_divergence(self, error: DivergedError) -> None:
        """Keep how it diverged, which it would at every launch."""
        write_checked(_diverged_path(self.path), lambda file: file.write(str(error).encode()))
        self._state_path.unlink(missing_ok=True)


class _Trainings:
    """Some jobs, all submitted to Ray at once; what Ray loses goes on with another worker."""

    def __init__(self, jobs: list[_Job]) -> None:
        self.running = {job.start(): job for job in jobs}
        self.waiting: list[_Job] = []  # for memory that another one gives back when it ends
        self.deaths: Counter[str] = Counter()
        self.failure: RunFailedError | None = None

    def run(self) -> None:
        """Wait for all of them and keep what comes of them.

        Raises:
            RunFailedError: workers died over one again and again; the others have ended.
        """
        while self.running:
            stream = first_ready([*self.running])
            job = self.running[stream]
            try:
                if job.keep(ray.get(next(stream))):
                    self.deaths[job.title] = 0
            except StopIteration:
                self._end(stream)
            except ray.exceptions.RayError as error:
                if is_lost(error):
                    self._bury(stream, error)
                else:
                    self._fail(stream, error)
        if self.failure:
            raise self.failure

    def _end(self, stream: Any) -> None:
        del self.running[stream]
        if self.waiting:
            job = self.waiting.pop(0)
            self.running[job.start()] = job

    def _fail(self, stream: Any, error: ray.exceptions.RayError) -> None:
        job = self.running[stream]
        try:
            raise_cause(error, job.title)
        except DivergedError as diverged:
            job.keep_divergence(diverged)
        except RunFailedError as failure:
            self.failure = self.failure or failure
        self._end(stream)

    def _bury(self, stream: Any, error: ray.exceptions.RayError) -> None:
        job = self.running[stream]
        ray.cancel(stream, force=True)  # where an object was lost, its worker is alive
        if is_intact(job.path):  # it died just after its last words
            self._end(stream)
            return
        if isinstance(error, ray.exceptions.OutOfMemoryError) and len(self.running) > 1:
            print(f"{job.title}: its node was low on memory, it begins again when another ends")
            del self.running[stream]
            self.waiting.append(job)
            return
        self.deaths[job.title] += 1
        if self.deaths[job.title] < MAX_DEATHS:
            print(f"{job.title}: its worker died, another one takes its place")
            del self.running[stream]
            self.running[job.start()] = job
        else:
            self.failure = self.failure or died_too_often(f"{job.title}: its worker", error)
            self._end(stream)
