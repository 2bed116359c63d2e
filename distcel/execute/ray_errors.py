"""What Ray's errors mean: a lost worker, a known cause, or a defect."""

from __future__ import annotations

from typing import NoReturn

import ray
import torch

from distcel.experiment.errors import InvalidInputError, RunFailedError


def is_lost(error: ray.exceptions.RayError) -> bool:
    """Whether Ray lost a worker, a node or an object, so that the job may succeed elsewhere."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return isinstance(cause, ray.exceptions.RayError)


def lost_too_often(title: str, times: int, error: Exception) -> RunFailedError:
    """The error after so many lost workers."""
    reason = reason_of(str(error))
    return RunFailedError(f"{title}: worker lost {times} times, the last time: {reason}")


def reason_of(text: str) -> str:
    """Why a worker was lost or a trial failed, in one line of what Ray reports at length."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    out_of_memory = [line for line in lines if "low on memory" in line]
    return (out_of_memory or lines[-1:])[0].partition(" Some common causes")[0]


def raise_cause(error: ray.exceptions.RayError, title: str) -> NoReturn:
    """Raise the cause of an error on a worker: one line if known, else with its traceback.

    Args:
        error: the error that Ray reports; no worker was lost.
        title: the title of the job, for the message.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, torch.OutOfMemoryError):
        remedy = "give a larger --gpus-per-worker"
        raise RunFailedError(f"{title}: its GPU has too little memory: {remedy}") from None
    if isinstance(cause, (RunFailedError, InvalidInputError)):
        raise cause from None
    raise error
