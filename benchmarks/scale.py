"""What grows with samples, learners and trials, and what does not.

    python -m benchmarks.scale

The cache: eight learners' predictions of 10^4, 10^5 and 10^6 samples are opened, and read whole by
two workers. Scheduling: 1,000 learners and 500 trials that sleep instead of training, on a
simulated cluster of 8 nodes with 16 workers, all on this machine. The overhead is the share of the
workers' time, from the first one's start of its first job to the last one's end, in which they
had none; of the trials, in brackets, from the moment when all workers had begun to the last trial's
start.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
import torch
from ray.cluster_utils import Cluster

from benchmarks.measure import table
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split, Splits
from distcel.execute.cluster import cluster_pool, connect
from distcel.execute.jobs import Work
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.loading import load_experiment
from distcel.experiment.space import search_space
from distcel.experiment.types import SPLIT_NAMES, SelectionParams, SplitName, first_point
from distcel.search.search import SearchSettings, run_search
from distcel.search.trials import TrialStore
from distcel.train.cache import PredictionCache, TrainedLearner
from distcel.train.checkpoint import EpochResult, Weights
from distcel.train.learner import LearnerJob
from distcel.train.selection import TrainingTask

N_LEARNERS, N_TRIALS, N_NODES, CORES_EACH = 1000, 500, 8, 2
LEARNER_SECONDS, EPOCH_SECONDS = 3.0, 1.5
DIGITS = load_experiment("digits", "smoke")
CLASSES = tuple(str(c) for c in range(10))


def some_split(name: SplitName, count: int) -> Split:
    """Small images, ten classes."""
    ids = pa.array([f"{name}/{i}" for i in range(count)])
    images, no_probs = np.zeros((count, 1, 4, 4), np.uint8), np.empty((count, 0, 10), np.float32)
    return Split(ids, np.arange(count) % 10, images, no_probs)


def some_splits(counts: tuple[int, int, int]) -> Splits:
    """As `some_split`."""
    sizes = zip(SPLIT_NAMES, counts, strict=True)
    return Splits(CLASSES, {name: some_split(name, count) for name, count in sizes}, "none", 0)


@ray.remote(num_cpus=1)
def own_memory_for(split: Split) -> float:
    """MB that reading the whole split adds to this worker's own memory."""
    process = psutil.Process()
    split.probs_SNC[:1].sum()
    before = process.memory_full_info().uss
    for block in range(0, len(split.labels_S), 1024):
        split.probs_SNC[block : block + 1024].sum()
    return (process.memory_full_info().uss - before) / 1e6


def cache_report() -> str:
    """Opening a cache, and what it costs a worker."""
    specs = [LearnerSpec(str(i), (i,)) for i in range(8)]
    keys = ["key"] * len(specs)
    rows = []
    for count in (10**4, 10**5, 10**6):
        splits = some_splits((count, 10, 10))
        random = np.random.default_rng(0)
        with TemporaryDirectory() as folder:
            cache = PredictionCache(Path(folder))
            for spec, key in zip(specs, keys, strict=True):
                probs = {
                    name: random.random((len(splits[name].labels_S), 10), dtype=np.float32)
                    for name in SPLIT_NAMES
                }
                weights: Weights = {"weights": np.zeros(1, np.float32)}
                cache.write(spec, key, splits, TrainedLearner(probs, weights, 1.0))
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                split = cache.load(specs, keys, splits["train"], "train")
                seconds.append(time.perf_counter() - started)
        megabytes = split.probs_SNC.nbytes / 1e6
        ref = ray.put(split)
        own = ray.get([own_memory_for.remote(ref) for _ in range(2)])
        rows.append(
            [
                f"{count:,}",
                f"{megabytes:.1f}",
                f"{1e3 * min(seconds):.0f}",
                f"{megabytes / min(seconds):.0f}",
                f"{max(own):.2f} ({100 * max(own) / megabytes:.1f} %)",
            ]
        )
    head = ["samples, 8 learners", "predictions, MB", "opened in ms", "MB/s"]
    return table([*head, "a worker's own memory, MB (at most 5 %)"], rows)


def sleep(shared: Any, device: torch.device, state: bytes | None) -> Iterator[TrainedLearner]:
    """Stands in for a learner's training: it leaves when and where it slept."""
    began = time.time()
    time.sleep(LEARNER_SECONDS)
    probs = np.full((10, 10), 0.1, np.float32)
    times = np.array([os.getpid(), began, time.time()])
    yield TrainedLearner(dict.fromkeys(SPLIT_NAMES, probs), {"times": times}, LEARNER_SECONDS)


class SleepingJob(LearnerJob):
    """A base learner that is not trained; its results go to the cache all the same."""

    @property
    def work(self) -> Work:
        """As `sleep`."""
        return sleep


class SleepingSelection:
    """Stands in for SelectionTraining: what `SelectionTrial` calls of it."""

    def __init__(self, params: SelectionParams) -> None:
        self.params, self.epoch = params, 0

    def run_epoch(self) -> EpochResult:
        """Sleep."""
        began = time.monotonic()
        time.sleep(EPOCH_SECONDS)
        self.epoch += 1
        seconds, now = time.monotonic() - began, int(time.time() * 1000)
        return EpochResult(self.epoch, 1.0, 1.0, self.params.epsilon / 10, seconds, now)


@dataclass(frozen=True)
class SleepingTask(TrainingTask):
    """A task whose trials sleep."""

    def begin(self, params: SelectionParams, device: Any) -> Any:
        """A trial that sleeps."""
        return SleepingSelection(params)


@contextmanager
def driver_memory() -> Iterator[list[float]]:
    """MB that this process holds, a value a second."""
    values: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            values.append(psutil.Process().memory_info().rss / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    yield values
    over.set()
    thread.join()


def growth(values: list[float]) -> str:
    """From a fifth of the way, when everything is loaded, to the end."""
    return f"{values[len(values) // 5]:.0f} to {values[-1]:.0f}"


def learners(folder: Path) -> list[object]:
    """A row about base learners."""
    specs = [LearnerSpec(f"learner {i}", (0,)) for i in range(N_LEARNERS)]
    keys = [str(i) for i in range(N_LEARNERS)]
    cache, executor = PredictionCache(folder), RayExecutor(lambda: cluster_pool(1.0))
    splits, named = some_splits((10, 10, 10)), zip(specs, keys, strict=True)
    jobs = [SleepingJob(spec, key, splits, cache) for spec, key in named]
    started = time.perf_counter()
    with driver_memory() as values:
        executor.run(jobs, executor.share(None), "base learner")
    seconds = time.perf_counter() - started
    times = np.array(
        [cache.weights(spec, key)["times"] for spec, key in zip(specs, keys, strict=True)]
    )
    whole = len(np.unique(times[:, 0])) * (times[:, 2].max() - times[:, 1].min())
    idle = 1 - (times[:, 2] - times[:, 1]).sum() / whole
    kind = f"{N_LEARNERS} learners of {LEARNER_SECONDS:.0f} s"
    return [kind, executor.n_workers, f"{seconds:.0f}", f"{100 * idle:.1f} %", growth(values)]


def trials(folder: Path) -> list[object]:
    """A row about the search."""
    experiment = replace(DIGITS, selector_recipe=replace(DIGITS.selector_recipe, epochs=2))
    small = replace(some_split("train", 1), probs_SNC=np.zeros((1, 55, 10), np.float32))
    splits = Splits(CLASSES, {"train": small, "valid": small}, "none", 0)
    plan = NetworkPlan(DIGITS.network, (1, 4, 4), (0.5,), (0.25,))
    task = SleepingTask(experiment, plan, splits, 0)
    space, first = search_space(experiment, 55, {}), first_point(experiment, 55, {})
    store, executor = TrialStore(folder / "trials"), RayExecutor(lambda: cluster_pool(1.0))
    settings = SearchSettings(space, first, 2, 0, N_TRIALS)
    started = time.perf_counter()
    with driver_memory() as values:
        records = run_search(executor.share(task), settings, store, executor, folder / "tune")
    seconds = time.perf_counter() - started
    results = [result for record in records for result in record.epochs]
    ends = np.array([result.ended_ms / 1000 for result in results])
    starts = ends - np.array([result.seconds for result in results])
    firsts = np.sort([r.epochs[0].ended_ms / 1000 - r.epochs[0].seconds for r in records])
    n_workers = executor.n_workers
    whole = idle_share(starts, ends, n_workers, firsts[0], ends.max())
    # All nodes are this machine, whose cores start the workers one after another.
    steady = idle_share(starts, ends, n_workers, firsts[n_workers - 1], firsts[-1])
    kind = f"{N_TRIALS} trials of 1 or 2 epochs of {EPOCH_SECONDS} s"
    idle = f"{100 * whole:.1f} % ({100 * steady:.1f} %)"
    return [kind, n_workers, f"{seconds:.0f}", idle, growth(values)]


def idle_share(
    starts: np.ndarray, ends: np.ndarray, n_workers: int, begin: float, end: float
) -> float:
    """The share of the workers' time between two moments in which they had no epoch to run."""
    busy = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0, None).sum()
    return float(1 - busy / (n_workers * (end - begin)))


def report() -> str:
    """The tables, as Markdown."""
    with connect(None):
        cache = cache_report()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": CORES_EACH, "object_store_memory": 4 * 10**8},
    )
    for _ in range(N_NODES - 1):
        cluster.add_node(num_cpus=CORES_EACH, object_store_memory=2 * 10**8)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    with TemporaryDirectory() as folder:
        rows = [trials(Path(folder)), learners(Path(folder))]
    ray.shutdown()
    cluster.shutdown()
    head = ["jobs that sleep", "workers", "s in all", "workers without a job (at most 5 %)"]
    return f"{cache}\n\n{table([*head, 'driver, MB'], rows)}"


if __name__ == "__main__":
    print(report())
