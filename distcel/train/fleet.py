"""Trains the base learners concurrently with Ray actors and fills the prediction cache.

An actor holds a CPU core or a share of a GPU and trains one learner after another on the images in
Ray's object store. It streams its progress and its results to the driver, which alone writes
files: actors need no shared file system.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import torch

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Splits
from distcel.execute.pool import WorkerPool
from distcel.execute.workers import (
    MAX_DEATHS,
    died_too_often,
    first_ready,
    is_lost,
    raise_cause,
    worker_device,
)
from distcel.experiment.types import Experiment, LearnerSpec, SplitName
from distcel.train.cache import PredictionCache, TrainedLearner
from distcel.train.learner import LearnerData, Progress, train_learner

_SECONDS_BETWEEN_EPOCH_LINES = 10
_MAX_UNREAD_EVENTS = 8  # of an actor; each may hold a state of some hundred megabytes
# Between two states of a learner that are kept; after a kill it goes on from the last one.
_SECONDS_BETWEEN_STATES = 5.0


class BaseLearnerTrainer:
    """Trains base learners one after another; each call bears the name of the learner's classes."""

    def __init__(
        self,
        experiment: Experiment,
        data: LearnerData,
        seed: int,
        seconds_between_states: float,
    ) -> None:
        torch.set_num_threads(1)  # one process a core; and sums in one order, whatever the machine
        self.experiment, self.data, self.seed = experiment, data, seed
        self.seconds_between_states = seconds_between_states
        self.device = worker_device()

    def ready(self) -> None:
        """Return once the actor runs: until then it gets no learner."""

    def train(self, spec: LearnerSpec, state: bytes | None) -> Iterator[Progress | TrainedLearner]:
        """As `train_learner`."""
        for event in train_learner(
            spec,
            self.experiment,
            self.data,
            self.seed,
            self.device,
            state,
            self.seconds_between_states,
        ):
            if isinstance(event, Progress):  # the actor's log in the Ray dashboard
                print(f"{spec.name}: epoch {event.epoch}, loss {event.train_loss:.4f}", flush=True)
            yield event


BaseLearnerActor = ray.remote(BaseLearnerTrainer)


class Fleet:
    """A pool of actors that trains the learners whose predictions are missing from the cache.

    A learner whose actor dies, or whose node is lost, goes on from its last kept state with another
    actor. The others start without waiting for an actor that has no room yet.

    Args:
        experiment: shares, architecture and recipe.
        splits: the data; learners are trained on `train`.
        cache: where weights and predictions are kept; it says of which splits.
        pool: how many actors, and their resources.
        plan: how their networks are built.
        seed: of every learner, together with its name.
    """

    def __init__(
        self,
        experiment: Experiment,
        splits: Splits,
        cache: PredictionCache,
        pool: WorkerPool,
        plan: NetworkPlan,
        seed: int,
    ) -> None:
        self.experiment, self.splits, self.cache = experiment, splits, cache
        self.pool, self.plan, self.seed = pool, plan, seed
        self.n_started = 0
        self._data: Any = None
        self._deaths: Counter[str] = Counter()
        self._pending: deque[tuple[LearnerSpec, str]] = deque()
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, LearnerSpec, str]] = {}

    def train(self, specs: Sequence[LearnerSpec], keys: Sequence[str]) -> int:
        """Train what is missing; returns how many learners that were.

        Raises:
            DivergedError: a learner's loss became NaN or infinite.
            RunFailedError: actors died 5 times over the same learner without a state in between, or
            5 while they started.
        """
        jobs = zip(specs, keys, strict=True)
        missing = [(spec, key) for spec, key in jobs if not self.cache.holds(spec, key)]
        # The largest first, so that no core waits for a straggler at the end.
        self._pending.extend(sorted(missing, key=lambda job: -len(job[0].classes)))
        if missing:
            try:
                self._train_pending()
            finally:
                self._dismiss()
        return len(missing)

    def _train_pending(self) -> None:
        names: dict[SplitName, None] = dict.fromkeys(("train", *self.cache.split_names))
        images = {name: self.splits[name].images for name in names}
        labels, n_classes = self.splits["train"].labels, len(self.splits.class_names)
        predicted = self.cache.split_names
        self._data = ray.put(LearnerData(self.plan, images, labels, n_classes, predicted))
        total, done, started = len(self._pending), 0, time.monotonic()
        self._last_said = started
        for _ in range(min(self.pool.size, total)):
            self._start_actor()
        while self._pending or self._running:
            self._assign()
            finished = self._next_event()
            if finished is not None:
                done += 1
                seconds = time.monotonic() - started
                left = seconds / done * (total - done)
                print(f"learner {done}/{total} {finished}: {seconds:.0f} s, {left:.0f} s to go")

    def _dismiss(self) -> None:
        busy = [actor for actor, _, _ in self._running.values()]
        for actor in [*self._idle, *busy, *self._starting.values()]:
            ray.kill(actor)
        self._data = None

    def _start_actor(self) -> None:
        self.n_started += 1
        options = BaseLearnerActor.options(
            name=f"base-learners-{self.n_started}",
            num_cpus=self.pool.num_cpus,
            num_gpus=self.pool.num_gpus,
        )
        actor = options.remote(self.experiment, self._data, self.seed, _SECONDS_BETWEEN_STATES)
        self._starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def _assign(self) -> None:
        while self._pending and self._idle:
            actor, (spec, key) = self._idle.pop(), self._pending.popleft()
            task = actor.train.options(
                num_returns="streaming",
                name=spec.name,
                _generator_backpressure_num_objects=_MAX_UNREAD_EVENTS,
            )
            stream = task.remote(spec, self.cache.state(spec, key))
            self._running[stream] = actor, spec, key

    def _next_event(self) -> str | None:
        """Take one event from the actors; the learner's name once its results are cached."""
        source = first_ready([*self._running, *self._starting])
        if source in self._starting:
            self._welcome(source)
            return None
        actor, spec, key = self._running[source]
        try:
            event = ray.get(next(source))
        except StopIteration:
            del self._running[source]
            self._idle.append(actor)
            return None
        except ray.exceptions.RayError as error:
            if not is_lost(error):
                raise_cause(error, f"learner {spec.name}")
            del self._running[source]
            self._bury(actor, spec.name, error)
            if not self.cache.holds(spec, key):  # it may have died just after its last words
                self._pending.appendleft((spec, key))
            return None
        if isinstance(event, Progress):
            self._note(spec, key, event)
            return None
        self.cache.write(spec, key, self.splits, event)
        return spec.name

    def _welcome(self, ready: Any) -> None:
        actor = self._starting.pop(ready)
        try:
            ray.get(ready)
            self._idle.append(actor)
        except ray.exceptions.RayError as error:
            self._bury(actor, "", error)

    def _bury(self, actor: Any, learner: str, error: ray.exceptions.RayError) -> None:
        whose = f"learner {learner}: its" if learner else "before its first learner an"
        ray.kill(actor)
        if isinstance(error, ray.exceptions.OutOfMemoryError) and (self._running or self._idle):
            print(f"{whose} node was low on memory, one actor fewer goes on")
            return
        self._deaths[learner] += 1
        if self._deaths[learner] == MAX_DEATHS:
            raise died_too_often(f"{whose} actor", error)
        print(f"{whose} actor died, another one takes its place")
        self._start_actor()

    def _note(self, spec: LearnerSpec, key: str, progress: Progress) -> None:
        if progress.state is not None:
            self.cache.keep_state(spec, key, progress.state)
            self._deaths[spec.name] = 0
        now = time.monotonic()
        if now - self._last_said > _SECONDS_BETWEEN_EPOCH_LINES:
            self._last_said = now
            epochs = self.experiment.learner_recipe.epochs
            loss = f"loss {progress.train_loss:.4f}"
            print(f"learner {spec.name}: epoch {progress.epoch}/{epochs}, {loss}")
