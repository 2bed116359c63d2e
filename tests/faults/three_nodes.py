"""A cluster of three nodes that loses one, without grace, while it works.

    python -m tests.faults.three_nodes training|search|rules TIMES FOLDER

Prints one JSON object a loss. A process of its own, since a process has one cluster at a time.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from distcel.rules.kept_training import train_missing
from ray.cluster_utils import Cluster

from distcel.core.networks import NetworkPlan
from distcel.data.splits import load_splits
from distcel.execute.cluster import cluster_pool
from distcel.experiment.space import search_space
from distcel.experiment.types import first_point
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialStore
from distcel.search.tune import SearchSettings, run_search
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import SelectionTask
from tests.core.test_ensemble import specialists
from tests.search import test_tune as test_search
from tests.train import test_fleet

N_LEARNERS, N_TRIALS = 12, 12


def lose_a_node(
    cluster: Cluster, work: Callable[[], object], begun: Callable[[], bool]
) -> dict[str, Any]:
    """Remove a node once the work has begun, and time what is left of it; then replace the node."""
    node = next(iter(cluster.worker_nodes))
    lost: list[float] = []
    over = threading.Event()

    def remove() -> None:
        while not begun() and not over.is_set():
            time.sleep(0.05)
        if not over.is_set():
            cluster.remove_node(node, allow_graceful=False)
            lost.append(time.monotonic())

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    seconds = time.monotonic() - lost[0]
    cluster.add_node(num_cpus=1, object_store_memory=2 * 10**8)
    cluster.wait_for_nodes()
    return {"seconds": seconds}


def training(cluster: Cluster, folder: Path) -> dict[str, Any]:
    recipe = replace(test_fleet.EXPERIMENT.learner_recipe, epochs=150)
    experiment = replace(test_fleet.EXPERIMENT, learner_recipe=recipe)
    splits = load_splits(experiment, folder, folder.parent / "data", seed=0)
    launch = test_fleet.Launch(splits, folder / "cache", cluster_pool(1.0), experiment, N_LEARNERS)

    def begun() -> bool:
        return len(list((folder / "cache").glob("weights/*.safetensors"))) >= 3

    result = lose_a_node(cluster, launch.train, begun)
    held = sum(
        launch.cache.holds(spec, key) for spec, key in zip(launch.specs, launch.keys, strict=True)
    )
    return result | {"held": held == N_LEARNERS, "started": launch.fleet.n_started}


def selection_task(epochs: int) -> SelectionTask:
    recipe = replace(test_search.EXPERIMENT.selector_recipe, epochs=epochs)
    experiment = replace(test_search.EXPERIMENT, selector_recipe=recipe)
    plan = NetworkPlan(experiment.network, (1, 16, 16), (0.5,), (0.25,))
    return SelectionTask(experiment, plan, specialists(0), specialists(1), seed=0)


def search(cluster: Cluster, folder: Path) -> dict[str, Any]:
    task = selection_task(epochs=60)
    experiment = task.experiment
    store = TrialStore(folder / "trials")
    settings = SearchSettings(
        search_space(experiment, 4, {}), first_point(experiment, 4, {}), 60, 0, N_TRIALS
    )

    def work() -> object:
        return run_search(ray.put(task), settings, store, cluster_pool(1.0), folder / "tune")

    result = lose_a_node(cluster, work, lambda: len(store.snapshot()) >= 3)
    states = [record.state for record in store.snapshot()]
    return result | {"held": states == ["COMPLETE"] * N_TRIALS, "states": states}


@dataclass(frozen=True)
class MarkedRule(SmartRule):
    """Leaves a file that bears the name of the node it is trained on."""

    marks: str

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        Path(self.marks, ray.get_runtime_context().get_node_id()).touch()
        yield from super().train(task, device, state)


def rules(cluster: Cluster, folder: Path) -> dict[str, Any]:
    task, first = selection_task(epochs=100), test_search.EXPERIMENT.first_trial
    (marks := folder / "marks").mkdir(parents=True)
    marked = {
        f"k = {k}, m = {m}": MarkedRule(replace(first, k=k, m=m), str(marks))
        for k in (1, 2, 3)
        for m in (1, 2)
    }
    found: dict[str, object] = {}

    def work() -> None:
        found.update(train_missing(marked, ray.put(task), cluster_pool(1.0), folder))

    node = next(iter(cluster.worker_nodes))
    result = lose_a_node(cluster, work, lambda: (marks / node.node_id).exists())
    trained = [isinstance(network, TrainedNetwork) for network in found.values()]
    return result | {"held": trained == [True] * len(marked)}


def main() -> None:
    """Lose nodes as the command line says."""
    stage, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 4 * 10**8},
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=2 * 10**8)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    work = {"training": training, "search": search, "rules": rules}[stage]
    for number in range(count):
        result = work(cluster, folder / str(number))
        print(json.dumps(result), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
