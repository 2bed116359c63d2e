"""The one patch of Ray's private code, written for Ray 2.60.

Ray's memory monitor kills a worker with an OutOfMemoryError, which Tune does not count among the
errors of an actor: one such trial would end the whole search. tests/search/test_ray_patch.py fails
when Ray no longer needs this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import ray
from ray.air.execution._internal import actor_manager
from ray.tune.execution import tune_controller

_ACTOR_ERRORS = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)


@contextmanager
def memory_kills_are_actor_errors() -> Iterator[None]:
    """Let Tune treat a trial that was killed for lack of memory as one that lost its actor."""
    with (
        mock.patch.object(actor_manager, "RayActorError", _ACTOR_ERRORS),
        mock.patch.object(tune_controller, "RayActorError", _ACTOR_ERRORS),
    ):
        yield
