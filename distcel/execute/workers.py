"""What Ray's workers share: how many there are, their device, and what their failures mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import ray
import torch

from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import InvalidInputError, RunFailedError
from distcel.train.loop import DivergedError

_SECONDS_OF_A_WAIT = 1.0
MAX_DEATHS = 5  # of workers over the same work, without a state in between


def cluster_pool(gpu_share: float) -> WorkerPool:
    """The pool for the cluster that Ray is connected to."""
    return WorkerPool.on_nodes([n["Resources"] for n in ray.nodes() if n["Alive"]], gpu_share)


def worker_device() -> torch.device:
    """The device of the actor or task that this is called in: its GPU if Ray gave it one."""
    has_gpu = bool(ray.get_gpu_ids()) and torch.cuda.is_available()
    return torch.device("cuda" if has_gpu else "cpu")


def first_ready(sources: Sequence[Any]) -> Any:
    """Wait for the first of some streams or references that has something.

    In short waits: what a signal's handler raises during one is raised when it ends.
    """
    ready: list[Any] = []
    while not ready:
        ready, _ = ray.wait(list(sources), num_returns=1, timeout=_SECONDS_OF_A_WAIT)
    return ready[0]


def is_lost(error: ray.exceptions.RayError) -> bool:
    """Whether Ray lost a worker, a node or an object, so that the work may succeed elsewhere."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return isinstance(cause, ray.exceptions.RayError)


def died_too_often(who: str, error: ray.exceptions.RayError) -> RunFailedError:
    """What to raise when workers died MAX_DEATHS times; of Ray's lines the last is the cause's."""
    last = str(error).strip().rpartition("\n")[2].strip()
    return RunFailedError(f"{who} died {MAX_DEATHS} times, the last time of this: {last}")


def raise_cause(error: ray.exceptions.RayError, title: str) -> NoReturn:
    """Raise what failed on a worker: in one line if it is ours, else with the remote traceback.

    Args:
        error: of Ray, nothing being lost.
        title: of what was trained there.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, DivergedError):
        raise DivergedError(f"{title}: {cause}") from None
    if isinstance(cause, torch.OutOfMemoryError):
        remedy = "give a larger --gpus-per-worker"
        raise RunFailedError(f"{title}: its GPU has too little memory: {remedy}") from None
    if isinstance(cause, (RunFailedError, InvalidInputError)):
        raise cause from None
    raise error
