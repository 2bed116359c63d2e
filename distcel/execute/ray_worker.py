"""What runs on a worker of a Ray cluster."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import Any

import ray
import torch

from distcel.execute.jobs import Progress, Work, outcomes
from distcel.execute.process import set_up_worker
from distcel.storage.provenance import require_versions


class Worker:
    """Runs one job after another on the shared data.

    Args:
        shared: what the jobs share.
        versions: the driver's `library_versions`.

    Raises:
        RunFailedError: this node has other versions; no job is run here.
    """

    def __init__(self, shared: Any, versions: dict[str, str]) -> None:
        require_versions(versions)
        set_up_worker()
        self.shared = shared
        self.device = worker_device()

    def ready(self) -> str:
        """The node, once the actor runs: until then it gets no job."""
        return f"{ray.util.get_node_ip_address()}, {platform.node()}"

    def run(self, title: str, work: Work, state: bytes | None) -> Iterator[Any]:
        """Yield the job's `jobs.outcomes`; the Ray dashboard shows what is printed here."""
        for event in outcomes(work, self.shared, self.device, state):
            if isinstance(event, Progress):
                print(f"{title}: epoch {event.epoch}, loss {event.train_loss:.4f}", flush=True)
            yield event


def worker_device() -> torch.device:
    """The device of the actor or trial that this is called in: its GPU if Ray gave it one."""
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda" if has_gpu else "cpu")
