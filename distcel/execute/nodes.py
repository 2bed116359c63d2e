"""The nodes of a Ray cluster that was joined: which of them get work, as they come and go.

A node counts once it has described itself and has torch, torchvision and numpy in the driver's
versions, which cache keys have. Any other node is left out by name. A worker that starts on a node
before this checks its versions itself.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distcel.execute.pool import NODE_ID, WorkerPool
from distcel.experiment.errors import invalid
from distcel.storage.provenance import describe_worker, library_versions

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_TO_DESCRIBE = 60.0  # a node that takes longer joins later
_SECONDS_BETWEEN_WORDS = 60.0


class Nodes:
    """Looks at the nodes now and then, and at new ones in particular.

    Args:
        gpu_share: the share of a GPU for each worker, as `WorkerPool.on_nodes` has it.
    """

    def __init__(self, gpu_share: float) -> None:
        self.gpu_share = gpu_share
        self.here = describe_worker()
        self.alive: dict[str, Any] = {}
        self.usable: set[str] = set()
        self.left_out: dict[str, str] = {}  # why, by node id
        self.describing: dict[Any, str] = {}  # node id by the description that is under way
        self.demand: list[Any] = []
        self.had_room = False
        self.look_again()

    def look_again(self) -> None:
        """Look at once, not only after a while: a worker was lost, and its node it may be."""
        self.looked = -float("inf")

    def pool(self, wanted: int | None = None) -> WorkerPool:
        """The workers that there is room for; at least one, which is waited for with a word.

        Args:
            wanted: how many workers would have work; None is as many as before. An autoscaler is
                asked for those beyond the room, at most as many as there is room for now, so that
                it doubles at most.

        Raises:
            InvalidInputError: no node has been able to work so far, and one with room was left out.
        """
        self._look()
        if self.describing and not self._room():
            self._await_descriptions()
        if not self._room():
            self._wait_for_room()
        self.had_room = True
        pool = self._usable_pool()
        if wanted is not None:
            n_workers = max(0, min(wanted - pool.size, pool.size))
            self._ask_for(n_workers, pool.num_cpus, pool.num_gpus)
        return pool

    def _usable_pool(self) -> WorkerPool:
        resources = [self.alive[node_id]["Resources"] for node_id in self.usable]
        pool = WorkerPool.on_nodes(resources, self.gpu_share)
        return replace(pool, avoided=tuple(sorted(self.left_out.keys() & self.alive.keys())))

    def _room(self) -> bool:
        resources = [self.alive[node_id]["Resources"] for node_id in self.usable]
        return any(r.get("CPU", 0) >= 1 or r.get("GPU", 0) > 0 for r in resources)

    def _look(self) -> None:
        """Learn which nodes are alive, and have new ones describe themselves."""
        if time.monotonic() - self.looked < _SECONDS_BETWEEN_LOOKS:
            return
        self.looked = time.monotonic()
        before = self.alive
        self.alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        gone = self.usable - set(self.alive)
        self.usable -= gone
        for node_id in gone:
            logger.warning("node %s: has left", before[node_id]["NodeManagerAddress"])
        for node_id in self.alive.keys() - self.usable - self.left_out.keys():
            if node_id not in self.describing.values():
                on_it = NodeAffinitySchedulingStrategy(node_id, soft=False)
                task = _describe.options(scheduling_strategy=on_it, num_cpus=0)
                self.describing[task.remote()] = node_id
        if self.describing:
            done, _ = ray.wait([*self.describing], num_returns=len(self.describing), timeout=0)
            self._described(done)

    def _await_descriptions(self) -> None:
        refs = [*self.describing]
        deadline = time.monotonic() + _SECONDS_TO_DESCRIBE
        while refs and time.monotonic() < deadline:  # short waits: a signal's handler may raise
            done, refs = ray.wait(refs, num_returns=len(refs), timeout=1.0)
            self._described(done)

    def _described(self, done: list[Any]) -> None:
        for ref in done:
            node_id = self.describing.pop(ref)
            if node_id not in self.alive:
                continue
            try:
                facts = ray.get(ref)
            except ray.exceptions.RayError as error:
                facts = {"error": " ".join(str(error).split())[:200]}
            self._judge(node_id, facts)

    def _judge(self, node_id: str, facts: dict[str, str]) -> None:
        name = self.alive[node_id]["NodeManagerAddress"]
        others = [
            f"{library} {facts[library]}, where the launch has {self.here[library]}"
            for library in library_versions()
            if library in facts and facts[library] != self.here[library]
        ]
        if "error" in facts or others:
            self.left_out[node_id] = f"node {name}: {facts.get('error') or '; '.join(others)}"
            logger.warning("%s; it gets no work", self.left_out[node_id])
            return
        self.usable.add(node_id)
        if self._has_cores(node_id):
            logger.info("node %s: can work", name)
        if facts["cpu_capability"] != self.here["cpu_capability"]:
            theirs, ours = facts["cpu_capability"], self.here["cpu_capability"]
            line = "node %s: computes with %s, this machine with %s: results differ by rounding"
            logger.warning(line, name, theirs, ours)

    def _wait_for_room(self) -> None:
        """Wait until a node can work; an autoscaler is asked for one."""
        last_word = -float("inf")
        while not self._room():
            reasons = [why for node_id, why in self.left_out.items() if self._has_cores(node_id)]
            if reasons and not self.had_room:
                remedy = "install the launch's versions there"
                raise invalid("a node that can work", "; ".join(reasons), remedy)
            self._ask_for(1, 1.0, 0.0)
            if time.monotonic() - last_word > _SECONDS_BETWEEN_WORDS:
                last_word = time.monotonic()
                logger.info(
                    "no node with a CPU core or a GPU can work yet: waiting for one to join"
                )
            time.sleep(0.5)
            self._look()

    def _has_cores(self, node_id: str) -> bool:
        resources = self.alive[node_id]["Resources"] if node_id in self.alive else {}
        return bool(resources.get("CPU", 0) or resources.get("GPU", 0))

    def _ask_for(self, n_workers: int, num_cpus: float, num_gpus: float) -> None:
        """Let as many tasks wait for a node that is not known yet: autoscalers see only these.

        They end with the launch, however it ends; a request by Ray's SDK would not.
        """
        known = [*self.alive]
        self.demand = (
            ray.wait(self.demand, num_returns=len(self.demand), timeout=0)[1] if self.demand else []
        )
        while len(self.demand) > n_workers:
            ray.cancel(self.demand.pop())
        elsewhere = {NODE_ID: f"!in({','.join(known)})"}
        while len(self.demand) < n_workers:
            task = _describe.options(
                num_cpus=num_cpus, num_gpus=num_gpus, label_selector=elsewhere, max_retries=0
            )
            self.demand.append(task.remote())


@ray.remote
def _describe() -> dict[str, str]:
    """What `describe_worker` says there, or the error for which it can't."""
    try:
        return describe_worker()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
