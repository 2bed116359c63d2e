"""What the search costs beside the trials' own training, with two workers.

    python -m benchmarks.search

Random images and predictions: only the time matters. The fixed cost is the difference between a
search of many and one of few trials of some milliseconds each. The overhead is the time of a
search of 32 trials of one long epoch, over the sum of the epochs' own time divided by two; and
over what the same epochs take in two processes without Ray, Tune, Optuna or records.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Timing, table
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split
from distcel.execute.cluster import connect
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.loading import load_experiment
from distcel.experiment.space import search_space
from distcel.experiment.types import SelectionParams
from distcel.search.search import SearchSettings, run_search
from distcel.search.trials import TrialStore
from distcel.train.selection import TrainingTask
from tests.cached_splits import made_split, made_splits

N_LEARNERS, N_CLASSES = 55, 10
FEW, MANY, REPETITIONS = 8, 40, 3
N_LONG, LONG_SAMPLES = 32, 50_000
WORKERS = RayExecutor(lambda: WorkerPool(2, 1.0, 0.0))
POINT = SelectionParams(k=10, epsilon=0.1, m=1, lr=0.1, gradient="exact")


def random_split(count: int) -> Split:
    """CIFAR-10's shape with 55 learners."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    labels = random.integers(0, N_CLASSES, count)
    return made_split(
        labels, random.random((count, N_LEARNERS, N_CLASSES), dtype=np.float32), images
    )


def task(n_train: int) -> TrainingTask:
    """Trials of one epoch over so many samples."""
    quick = load_experiment("cifar10", "quick")
    experiment = replace(quick, selector_recipe=replace(quick.selector_recipe, epochs=1))
    plan = NetworkPlan(quick.network, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    splits = made_splits(random_split(n_train), random_split(128))
    return TrainingTask(experiment, plan, splits, seed=0)


def searched(shared: Any, n_trials: int) -> tuple[float, float]:
    """Seconds of a search, and of its trials' own epochs."""
    experiment = load_experiment("cifar10", "quick")
    space = search_space(experiment, N_LEARNERS, POINT.as_dict())
    settings = SearchSettings(space, POINT, 1, 0, n_trials)
    with TemporaryDirectory() as folder:
        store = TrialStore(Path(folder) / "trials")
        started = time.perf_counter()
        records = run_search(shared, settings, store, WORKERS, Path(folder) / "tune")
        seconds = time.perf_counter() - started
    assert [record.state for record in records] == ["COMPLETE"] * n_trials
    return seconds, sum(result.seconds for record in records for result in record.epochs)


def _bare_trials(count: int) -> None:
    torch.set_num_threads(1)
    own = task(LONG_SAMPLES)
    for _ in range(count):
        own.begin(POINT, torch.device("cpu")).run_epoch()


def bare(n_trials: int) -> float:
    """Seconds that the same trials take in two plain processes, their starts included."""
    context = multiprocessing.get_context("spawn")
    started = time.perf_counter()
    processes = [context.Process(target=_bare_trials, args=(n_trials // 2,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.perf_counter() - started


def report() -> str:
    """The tables, as Markdown."""
    with connect(None):
        small = WORKERS.share(task(64))
        searched(small, 2)
        few, many = (
            Timing(tuple(searched(small, count)[0] for _ in range(REPETITIONS)))
            for count in (FEW, MANY)
        )
        seconds, own = searched(WORKERS.share(task(LONG_SAMPLES)), N_LONG)
    alone = bare(N_LONG)
    costs = [
        (slow - fast) / (MANY - FEW) * WORKERS.n_workers
        for fast, slow in zip(few.seconds, many.seconds, strict=True)
    ]
    fixed = [
        f"fixed cost of a trial, s of a worker ({REPETITIONS} pairs of searches)",
        f"{statistics.median(costs):.2f} ({min(costs):.2f} to {max(costs):.2f})",
        "0.3",
    ]
    rows = [
        fixed,
        [
            f"{N_LONG} trials of {own / N_LONG:.1f} s took {seconds:.0f} s: times their own "
            "compute divided by two",
            f"{seconds / (own / WORKERS.n_workers):.3f}",
            "1.10",
        ],
        [f"... times two plain processes, {alone:.0f} s", f"{seconds / alone:.3f}", ""],
    ]
    return table(["search on two workers", "measured", "target"], rows)


if __name__ == "__main__":
    print(report())
