"""How many actors, trials or tasks of Ray run at once on given nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distcel.experiment.errors import require

NODE_ID = "ray.io/node-id"  # a label that Ray gives every node


@dataclass(frozen=True)
class WorkerPool:
    """How many workers run at once, and what each of them holds of a node.

    Attributes:
        size: number of workers.
        num_cpus: CPU cores of a worker, at most 1.
        num_gpus: GPUs of a worker, or its share of one.
        avoided: Ray's ids of the nodes that workers must not be on.
    """

    size: int
    num_cpus: float
    num_gpus: float
    avoided: tuple[str, ...] = ()

    @property
    def label_selector(self) -> dict[str, str]:
        """Ray's selector of the nodes; it also fits nodes that join later."""
        return {NODE_ID: f"!in({','.join(self.avoided)})"} if self.avoided else {}

    @staticmethod
    def on_nodes(nodes: Sequence[Mapping[str, float]], gpu_share: float) -> WorkerPool:
        """One worker a core, or as many as fit on the GPUs where there are any.

        Args:
            nodes: resources of each node, by Ray's names CPU and GPU.
            gpu_share: the share of a GPU for each worker; above 1, a whole number of GPUs.

        Raises:
            InvalidInputError: no node has what one worker needs.
        """
        gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        if gpus == 0:
            cores = sum(int(node.get("CPU", 0.0)) for node in nodes)
            require(cores >= 1, "a CPU core or a GPU on the cluster", cores, "add a node")
            return WorkerPool(cores, 1.0, 0.0)
        usable = gpu_share <= min(1.0, gpus) or (gpu_share <= gpus and gpu_share == int(gpu_share))
        rule = f"--gpus-per-worker at most 1, or a whole number up to {gpus:g}"
        require(usable, rule, gpu_share, "give another share")
        fitting = [(_fitting(node.get("GPU", 0.0), gpu_share), node) for node in nodes]
        cores_each = [node.get("CPU", 0.0) / count for count, node in fitting if count]
        size = sum(count for count, _ in fitting)
        return WorkerPool(size, math.floor(100 * min([1.0, *cores_each])) / 100, gpu_share)


def _fitting(gpus: float, share: float) -> int:
    """How many shares a node's GPUs hold; one share is never spread over two GPUs."""
    if share > 1:
        return int(gpus // share)
    return int(gpus) * math.floor(1 / share + 1e-9)
