"""Has rules trained by Ray's workers, all at once, and keeps what comes of it.

`FOLDER/<title>-<key>.safetensors` is a rule's network; while it is trained, `.state` is what its
training can go on from. The driver alone writes files: workers need no shared file system.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import ray
import torch
from torch import Tensor

from distcel.actor_pool import ActorPool
from distcel.checks import RunFailedError
from distcel.fleet import raise_cause, worker_device
from distcel.learners import Progress
from distcel.predictions import CachedSplit
from distcel.selection import SelectionTask, TaskRef
from distcel.storage import (
    code_of,
    content_key,
    is_intact,
    read_sealed,
    write_checked,
    write_sealed,
)
from distcel.trained_network import TrainedNetwork
from distcel.training import DivergedError

_MAX_DEATHS = 5


class TrainableRule(Protocol):
    """A rule that is a trained network; a frozen dataclass whose fields are JSON."""

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        """Yields progress that brings a state to go on from, if any, and at its end the network."""
        ...

    def predict(self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit) -> Tensor:
        """Class probabilities for every sample of the split, shape (S, C)."""
        ...


def train_missing(
    rules: Mapping[str, TrainableRule], task: TaskRef, pool: ActorPool, folder: Path
) -> dict[str, TrainedNetwork]:
    """Train the rules of which no intact network is kept; returns all of them.

    Args:
        rules: by title, the longest training first: Ray starts them in this order, as many at
            once as there are resources.
        task: what they are trained on, in Ray's object store.
        pool: the resources of each worker.
        folder: where the networks are kept; whoever gives it answers for the task being the same.

    Returns:
        dict: by title; a rule that diverges is left out, and said so.

    Raises:
        RunFailedError: workers died 5 times over the same rule.
    """
    paths = {title: folder / _file_name(title, rule) for title, rule in rules.items()}
    missing = [
        _Job(title, rule, task, pool, paths[title])
        for title, rule in rules.items()
        if not is_intact(paths[title])
    ]
    _train(missing)
    return {
        title: TrainedNetwork.from_bytes(path.read_bytes())
        for title, path in paths.items()
        if path.exists()
    }


def _file_name(title: str, rule: TrainableRule) -> str:
    code = code_of(sys.modules[type(rule).__module__])
    key = content_key([asdict(rule), code, torch.__version__])  # type: ignore[call-overload]
    return f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}-{key}.safetensors"


@ray.remote(max_retries=0)
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
    pool: ActorPool
    path: Path

    @property
    def _state_path(self) -> Path:
        return self.path.with_suffix(".state")

    def start(self) -> Any:
        """Submit it, to go on from its last state."""
        options: Any = _train_on_worker.options(
            num_returns="streaming",
            num_cpus=self.pool.num_cpus,
            num_gpus=self.pool.num_gpus,
            name=self.title,
        )
        return options.remote(self.rule, self.task, read_sealed(self._state_path))

    def keep(self, event: Progress | TrainedNetwork) -> None:
        if isinstance(event, TrainedNetwork):
            content = event.to_bytes()
            write_checked(self.path, lambda file: file.write(content))
            self._state_path.unlink(missing_ok=True)
        elif event.state is not None:
            write_sealed(self._state_path, event.state)
            print(f"{self.title}: epoch {event.epoch}, loss {event.train_loss:.4f}")


def _train(jobs: list[_Job]) -> None:
    running = {job.start(): job for job in jobs}
    deaths: Counter[str] = Counter()
    while running:
        stream: Any = ray.wait(list(running), num_returns=1)[0][0]
        job = running[stream]
        try:
            job.keep(ray.get(next(stream)))
        except StopIteration:
            del running[stream]
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, DivergedError):
                raise_cause(error)
            print(f"{job.title}: {error.cause}")
            del running[stream]
        except ray.exceptions.RayError as error:  # its worker or node was lost, or out of memory
            del running[stream]
            deaths[job.title] += 1
            if deaths[job.title] == _MAX_DEATHS:
                reason = str(error).partition("\n")[0]
                rule = f"{job.title}: its worker died {_MAX_DEATHS} times"
                raise RunFailedError(f"{rule}, the last time of this: {reason}") from None
            print(f"{job.title}: its worker died, another one takes its place")
            running[job.start()] = job
