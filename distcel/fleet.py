"""Trains the base learners concurrently with Ray actors and fills the prediction cache.

An actor holds a CPU core or a fraction of a GPU, keeps the images on its device and trains one
learner after another. It streams its progress and its results to the driver, which alone writes
files: actors need no shared file system.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import torch

from distcel.datasets import Splits
from distcel.learners import LearnerData, Progress, TrainedLearner, train_learner
from distcel.networks import NetworkPlan
from distcel.predictions import PredictionCache
from distcel.types import SPLIT_NAMES, Experiment, LearnerSpec

_MAX_ATTEMPTS = 5
_ACTOR_LOST = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError)


@dataclass(frozen=True)
class ActorPool:
    """How many actors run at once, and what each of them holds of a node."""

    size: int
    num_cpus: float
    num_gpus: float

    @staticmethod
    def on_cluster(gpus_per_worker: float) -> ActorPool:
        """As many as the cluster that Ray is connected to can run: one a core or GPU fraction."""
        resources = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)
        if gpus == 0:
            return ActorPool(max(1, int(cpus)), 1.0, 0.0)
        size = max(1, int(gpus / gpus_per_worker))
        return ActorPool(size, min(1.0, cpus / size), gpus_per_worker)


class BaseLearnerTrainer:
    """Trains base learners one after another; each call bears the name of the learner's classes."""

    def __init__(self, experiment: Experiment, data: LearnerData, seed: int) -> None:
        torch.set_num_threads(1)  # one process a core; and sums in one order, whatever the machine
        self.experiment, self.data, self.seed = experiment, data, seed
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def train(self, spec: LearnerSpec) -> Iterator[Progress | TrainedLearner]:
        """As `train_learner`."""
        yield from train_learner(spec, self.experiment, self.data, self.seed, self.device)


BaseLearnerActor = ray.remote(BaseLearnerTrainer)


class Fleet:
    """A pool of actors that trains the learners whose predictions are missing from the cache.

    A learner whose actor dies, or whose node is lost, is trained again by another actor.

    Args:
        experiment: shares, architecture and recipe.
        splits: the data.
        cache: where weights and predictions are kept.
        pool: how many actors, and their resources.
        plan: how their networks are built.
        seed: of every learner, together with its name.
    """

    def __init__(
        self,
        experiment: Experiment,
        splits: Splits,
        cache: PredictionCache,
        pool: ActorPool,
        plan: NetworkPlan,
        seed: int,
    ) -> None:
        self.experiment, self.splits, self.cache = experiment, splits, cache
        self.pool, self.plan, self.seed = pool, plan, seed
        self._n_started = 0
        self._attempts: Counter[str] = Counter()
        self._pending: deque[tuple[LearnerSpec, str]] = deque()
        self._running: dict[Any, tuple[Any, LearnerSpec, str]] = {}
        self._idle: list[Any] = []

    def train(self, specs: Sequence[LearnerSpec], keys: Sequence[str]) -> int:
        """Train what is missing; returns how many learners that were.

        Raises:
            DivergedError: a learner's loss became NaN or infinite.
            RuntimeError: an actor died 5 times over the same learner.
        """
        jobs = zip(specs, keys, strict=True)
        self._pending.extend((s, k) for s, k in jobs if not self.cache.holds(s, k))
        total, done, started = len(self._pending), 0, time.monotonic()
        if total == 0:
            return 0
        images = {name: self.splits[name].images for name in SPLIT_NAMES}
        labels, n_classes = self.splits["train"].labels, len(self.splits.class_names)
        self._data = ray.put(LearnerData(self.plan, images, labels, n_classes))
        self._idle = [self._start_actor() for _ in range(min(self.pool.size, total))]
        while self._pending or self._running:
            self._assign()
            finished = self._next_event()
            if finished is not None:
                done += 1
                seconds = time.monotonic() - started
                left = seconds / done * (total - done)
                print(f"learner {done}/{total} {finished}: {seconds:.0f} s, {left:.0f} s to go")
        for actor in self._idle:
            ray.kill(actor)
        return total

    def _start_actor(self) -> Any:
        self._n_started += 1
        options = BaseLearnerActor.options(
            name=f"base-learners-{self._n_started}",
            num_cpus=self.pool.num_cpus,
            num_gpus=self.pool.num_gpus,
        )
        return options.remote(self.experiment, self._data, self.seed)

    def _assign(self) -> None:
        while self._pending and self._idle:
            actor, (spec, key) = self._idle.pop(), self._pending.popleft()
            stream = actor.train.options(num_returns="streaming", name=spec.name).remote(spec)
            self._running[stream] = actor, spec, key

    def _next_event(self) -> str | None:
        """Take one event from the actors; the learner's name once its results are cached."""
        streams: list[Any] = list(self._running)
        stream: Any = ray.wait(streams, num_returns=1)[0][0]
        actor, spec, key = self._running[stream]
        try:
            event = ray.get(next(stream))
        except StopIteration:
            del self._running[stream]
            self._idle.append(actor)
            return None
        except _ACTOR_LOST:
            del self._running[stream]
            self._replace(actor, spec, key)
            return None
        except ray.exceptions.RayTaskError as error:
            cause: Exception = error.as_instanceof_cause()
            raise cause from None
        if not isinstance(event, TrainedLearner):
            return None
        self.cache.write(spec, key, self.splits, event.probs_by_split, event.weights)
        return spec.name

    def _replace(self, actor: Any, spec: LearnerSpec, key: str) -> None:
        self._attempts[key] += 1
        if self._attempts[key] == _MAX_ATTEMPTS:
            raise RuntimeError(f"learner {spec.name}: its actor died {_MAX_ATTEMPTS} times")
        print(f"learner {spec.name}: its actor died, another one trains it again")
        self._pending.appendleft((spec, key))
        ray.kill(actor)
        self._idle.append(self._start_actor())
