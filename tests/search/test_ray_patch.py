"""When this fails, distcel/search/ray_patch.py is no longer needed: delete both."""

import ray
from ray.air.execution._internal import actor_manager
from ray.tune.execution import tune_controller

from distcel.search.ray_patch import memory_kills_are_actor_errors


def test_tune_does_not_count_a_kill_for_lack_of_memory_as_an_actors_error() -> None:
    error = ray.exceptions.OutOfMemoryError
    for module in (actor_manager, tune_controller):
        unpatched = module.RayActorError
        assert not issubclass(error, unpatched)
        with memory_kills_are_actor_errors():
            assert error in module.RayActorError
        assert module.RayActorError is unpatched
