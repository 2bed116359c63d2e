"""A cluster of three nodes of which one is killed while it works.

    python -m tests.faults.three_nodes TIMES FOLDER STAGE...

The stages are `training`, `search` and `rules`. Prints the log and one JSON object a loss. It is a
process of its own, since a process has one cluster at a time.
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
from ray.cluster_utils import Cluster

from distcel.core.networks import NetworkPlan
from distcel.data.splits import load_splits
from distcel.execute.cluster import cluster_pool
from distcel.execute.ray_executor import RayExecutor
from distcel.search.kept import train_missing
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialStore
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask
from tests.cached_splits import made_splits
from tests.core.test_ensemble import specialists
from tests.search import test_search
from tests.train import learners

N_LEARNERS, N_TRIALS = 8, 6
# Ray counts a node as lost after two seconds without a heartbeat instead of fifteen.
NOTICED_SOON = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}


def lose_a_node(
    cluster: Cluster, work: Callable[[], object], begun: Callable[[], bool]
) -> dict[str, Any]:
    """Remove a node once the work has begun, and time the rest of the work."""
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
    return {"seconds": time.monotonic() - lost[0]}


def complete(cluster: Cluster) -> None:
    """Add nodes until the cluster has two beside its head."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=2 * 10**8)
    cluster.wait_for_nodes()


def executor() -> RayExecutor:
    """An executor on the current nodes of the cluster."""
    return RayExecutor(lambda: cluster_pool(1.0))


def training(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Base learners, of which three are trained when the node is lost."""
    recipe = replace(learners.EXPERIMENT.learner_recipe, epochs=100)
    experiment = replace(learners.EXPERIMENT, learner_recipe=recipe)
    splits = load_splits(experiment, folder, folder.parent / "data", seed=0)
    some = learners.Learners(splits, folder / "cache", experiment, N_LEARNERS)

    def begun() -> bool:
        return len(list((folder / "cache").glob("weights/*.safetensors"))) >= 3

    result = lose_a_node(cluster, lambda: some.train(executor()), begun)
    held = sum(some.cache.holds(*job) for job in zip(some.specs, some.keys, strict=True))
    return result | {"held": held == N_LEARNERS}


def selection_task(epochs: int) -> TrainingTask:
    """Trials with the given number of epochs of a few milliseconds."""
    recipe = replace(test_search.EXPERIMENT.selector_recipe, epochs=epochs)
    experiment = replace(test_search.EXPERIMENT, selector_recipe=recipe)
    plan = NetworkPlan(experiment.network, (1, 16, 16), (0.5,), (0.25,))
    return TrainingTask(experiment, plan, made_splits(specialists(0), specialists(1)), seed=0)


def search(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Trials, of which three have begun when the node is lost."""
    trials = folder / "trials"

    def begun() -> bool:
        return len(list(trials.glob("[0-9]*.json"))) >= 3

    def work() -> object:
        return test_search.search(selection_task(epochs=60), folder, N_TRIALS, executor())

    result = lose_a_node(cluster, work, begun)
    states = [record.state for record in TrialStore(trials).snapshot()]
    return result | {"held": states == ["COMPLETE"] * N_TRIALS, "states": states}


@dataclass(frozen=True)
class MarkedRule(SmartRule):
    """Writes a file with the name of the node that it is trained on."""

    marks: str

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Write the file, then train as `SmartRule.train`."""
        Path(self.marks, ray.get_runtime_context().get_node_id()).touch()
        yield from super().train(task, device, state)


def rules(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """Trained rules, one of which is at work on the node that is lost."""
    task, first = selection_task(epochs=100), test_search.EXPERIMENT.first_trial
    (marks := folder / "marks").mkdir(parents=True)
    marked = {
        f"k = {k}, m = {m}": MarkedRule(replace(first, k=k, m=m), str(marks))
        for k in (1, 2, 3)
        for m in (1, 2)
    }
    found: dict[str, object] = {}

    def work() -> None:
        workers = executor()
        found.update(train_missing(marked, workers.share(task), workers, folder))

    node = next(iter(cluster.worker_nodes))
    result = lose_a_node(cluster, work, lambda: (marks / node.node_id).exists())
    trained = [isinstance(network, TrainedNetwork) for network in found.values()]
    return result | {"held": trained == [True] * len(marked)}


def main() -> None:
    """Run the stages that the command line names, each with the loss of a node."""
    count, folder, stages = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logging.getLogger("distcel").setLevel(logging.INFO)
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 4 * 10**8,
            "_system_config": NOTICED_SOON,
        },
    )
    complete(cluster)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    work = {"training": training, "rules": rules, "search": search}
    for stage in stages:
        for number in range(count):
            complete(cluster)
            result = work[stage](cluster, folder / stage / str(number))
            print(json.dumps({"stage": stage} | result), flush=True)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
