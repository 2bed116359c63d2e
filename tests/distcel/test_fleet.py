import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from distcel import fleet as fleet_module
from distcel.datasets import Splits, load_splits
from distcel.fleet import ActorPool, Fleet
from distcel.learners import Progress, TrainedLearner, learner_key
from distcel.networks import NetworkPlan
from distcel.predictions import PredictionCache, Probabilities
from distcel.types import LearnerSpec, learner_specs
from search_spaces import load_experiment

EXPERIMENT = load_experiment("digits", "smoke")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(EXPERIMENT, folder, folder, seed=0)


class Launch:
    """A fleet with an empty cache, and the learners of the digits."""

    def __init__(self, splits: Splits, folder: Path, pool: ActorPool) -> None:
        plan = NetworkPlan(
            EXPERIMENT.architecture, splits.image_shape, *splits.channel_statistics()
        )
        self.cache = PredictionCache(folder)
        self.fleet = Fleet(EXPERIMENT, splits, self.cache, pool, plan, seed=0)
        self.specs = learner_specs(splits.class_names)[:12]
        self.keys = [learner_key(EXPERIMENT, spec, splits, plan, 0) for spec in self.specs]
        self.splits = splits

    def train(self) -> int:
        return self.fleet.train(self.specs, self.keys)

    def probs(self) -> Probabilities:
        return self.cache.load(self.specs, self.keys, self.splits["test"], "test").probs_SNC


def test_learners_are_trained_once_and_alike_whatever_the_number_of_actors(
    splits: Splits, pool: ActorPool, tmp_path: Path
) -> None:
    assert pool == ActorPool(2, 1.0, 0.0)
    two = Launch(splits, tmp_path / "two", pool)
    assert two.train() == 12
    assert two.train() == 0
    one = Launch(splits, tmp_path / "one", ActorPool(1, 1.0, 0.0))
    assert one.train() == 12
    np.testing.assert_array_equal(one.probs(), two.probs())


def test_only_what_is_missing_or_damaged_is_trained(
    splits: Splits, pool: ActorPool, tmp_path: Path
) -> None:
    launch = Launch(splits, tmp_path, pool)
    launch.train()
    before = launch.probs().copy()
    launch.cache.path(launch.specs[3], launch.keys[3], "train").unlink()
    damaged = launch.cache.path(launch.specs[5], launch.keys[5], "valid")
    content = bytearray(damaged.read_bytes())
    content[-100] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    assert launch.train() == 2
    np.testing.assert_array_equal(launch.probs(), before)


def test_a_killed_actors_learner_is_trained_again_to_the_same_result(
    splits: Splits, pool: ActorPool, tmp_path: Path
) -> None:
    undisturbed = Launch(splits, tmp_path / "undisturbed", pool)
    undisturbed.train()
    disturbed = Launch(splits, tmp_path / "disturbed", pool)
    killed: list[bool] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not killed:
            if len(list(tmp_path.glob("disturbed/weights/*.safetensors"))) >= 3:
                actor = ray.get_actor("base-learners-1")
                ray.kill(actor)
                killed.append(True)

    thread = threading.Thread(target=kill_one)
    thread.start()
    disturbed.train()
    thread.join()
    assert killed
    assert disturbed.fleet._n_started == 3
    np.testing.assert_array_equal(disturbed.probs(), undisturbed.probs())


def test_an_actor_that_dies_over_and_over_ends_the_training(
    splits: Splits, pool: ActorPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def __init__(self, *_: object) -> None:
            pass

        def train(self, spec: LearnerSpec) -> object:
            import os

            os._exit(1)
            yield spec

    monkeypatch.setattr(fleet_module, "BaseLearnerActor", ray.remote(Dying))
    launch = Launch(splits, tmp_path, ActorPool(1, 1.0, 0.0))
    with pytest.raises(RuntimeError, match="learner 0: its actor died 5 times"):
        launch.train()


def test_actors_and_their_calls_bear_names_for_the_dashboard(
    splits: Splits, pool: ActorPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Naming(fleet_module.BaseLearnerTrainer):
        def train(self, spec: LearnerSpec) -> Iterator[Progress | TrainedLearner]:
            context = ray.get_runtime_context()
            names = context.get_actor_name(), context.get_task_name()
            if names not in [("base-learners-1", spec.name), ("base-learners-2", spec.name)]:
                raise ValueError(f"called {names} for {spec.name}")
            yield from super().train(spec)

    monkeypatch.setattr(fleet_module, "BaseLearnerActor", ray.remote(Naming))
    assert Launch(splits, tmp_path, pool).train() == 12


@pytest.mark.parametrize(
    ("resources", "share", "expected"),
    [
        ({"CPU": 2.0}, 0.25, ActorPool(2, 1.0, 0.0)),
        ({"CPU": 16.0, "GPU": 1.0}, 0.25, ActorPool(4, 1.0, 0.25)),
        ({"CPU": 2.0, "GPU": 1.0}, 0.25, ActorPool(4, 0.5, 0.25)),
        ({"CPU": 64.0, "GPU": 8.0}, 1.0, ActorPool(8, 1.0, 1.0)),
        ({"CPU": 64.0, "GPU": 8.0}, 2.0, ActorPool(4, 1.0, 2.0)),
    ],
)
def test_there_is_an_actor_a_core_or_a_share_of_a_gpu(
    resources: dict[str, float],
    share: float,
    expected: ActorPool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    assert ActorPool.on_cluster(share) == expected
