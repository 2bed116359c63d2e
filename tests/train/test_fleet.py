import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Splits, load_splits
from distcel.execute.pool import WorkerPool
from distcel.execute.workers import cluster_pool
from distcel.experiment.errors import RunFailedError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, LearnerSpec, learner_specs
from distcel.train import fleet as fleet_module
from distcel.train.cache import PredictionCache, Probabilities, TrainedLearner
from distcel.train.fleet import Fleet
from distcel.train.learner import Progress, learner_key
from distcel.train.loop import DivergedError

EXPERIMENT = load_experiment("digits", "smoke")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(EXPERIMENT, folder, folder, seed=0)


class Launch:
    """A fleet with an empty cache, and the learners of the digits."""

    def __init__(
        self,
        splits: Splits,
        folder: Path,
        pool: WorkerPool,
        experiment: Experiment = EXPERIMENT,
        n_learners: int = 12,
    ) -> None:
        plan = NetworkPlan(
            experiment.architecture, splits.image_shape, *splits.channel_statistics()
        )
        self.cache = PredictionCache(folder)
        self.fleet = Fleet(experiment, splits, self.cache, pool, plan, seed=0)
        self.specs = learner_specs(splits.class_names)[:n_learners]
        self.keys = [learner_key(experiment, spec, splits, plan, 0) for spec in self.specs]
        self.splits = splits

    def train(self) -> int:
        return self.fleet.train(self.specs, self.keys)

    def probs(self) -> Probabilities:
        return self.cache.load(self.specs, self.keys, self.splits["test"], "test").probs_SNC


def watched(note: Callable[[LearnerSpec, Progress | TrainedLearner], object]) -> Any:
    """An actor that calls `note`, in its own process, with each event before the driver has it."""

    class Watched(fleet_module.BaseLearnerTrainer):
        def train(
            self, spec: LearnerSpec, state: bytes | None
        ) -> Iterator[Progress | TrainedLearner]:
            for event in super().train(spec, state):
                note(spec, event)
                yield event

    return ray.remote(Watched)


def test_learners_are_trained_once_and_alike_whatever_the_number_of_actors(
    splits: Splits, pool: WorkerPool, tmp_path: Path
) -> None:
    assert pool == WorkerPool(2, 1.0, 0.0)
    two = Launch(splits, tmp_path / "two", pool)
    assert two.train() == 12
    assert two.train() == 0
    one = Launch(splits, tmp_path / "one", WorkerPool(1, 1.0, 0.0))
    assert one.train() == 12
    np.testing.assert_array_equal(one.probs(), two.probs())


def test_only_what_is_missing_or_damaged_is_trained(
    splits: Splits, pool: WorkerPool, tmp_path: Path
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


def test_a_killed_actors_learner_goes_on_from_its_last_epoch(
    splits: Splits, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(spec: LearnerSpec, event: Progress | TrainedLearner) -> None:
        if isinstance(event, Progress):
            with (tmp_path / "epochs").open("a") as file:
                file.write(f"{spec.name} {event.epoch}\n")
            if event.epoch == 3 and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                while not (tmp_path / "kept").exists():
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)

    longer = replace(EXPERIMENT, learner_recipe=replace(EXPERIMENT.learner_recipe, epochs=4))
    monkeypatch.setattr(fleet_module, "_SECONDS_BETWEEN_STATES", 0.0)
    undisturbed = Launch(splits, tmp_path / "undisturbed", WorkerPool(1, 1.0, 0.0), longer, 1)
    undisturbed.train()
    keep_state = PredictionCache.keep_state

    def kept(cache: PredictionCache, spec: LearnerSpec, key: str, state: bytes) -> None:
        keep_state(cache, spec, key, state)
        states.append(state)
        if len(states) == 2:  # the second epoch's
            (tmp_path / "kept").touch()

    states: list[bytes] = []
    monkeypatch.setattr(PredictionCache, "keep_state", kept)
    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(note))
    disturbed = Launch(splits, tmp_path / "disturbed", WorkerPool(1, 1.0, 0.0), longer, 1)
    disturbed.train()
    (spec,) = disturbed.specs
    expected = [f"{spec.name} {epoch}" for epoch in (1, 2, 3, 3, 4)]
    assert (tmp_path / "epochs").read_text().splitlines() == expected
    np.testing.assert_array_equal(disturbed.probs(), undisturbed.probs())
    assert list((tmp_path / "disturbed" / "unfinished").iterdir()) == []


def test_a_learner_whose_actor_dies_after_its_last_words_is_not_trained_again(
    splits: Splits, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DyingTrainer(fleet_module.BaseLearnerTrainer):
        def train(
            self, spec: LearnerSpec, state: bytes | None
        ) -> Iterator[Progress | TrainedLearner]:
            (tmp_path / f"{spec.name} in {os.getpid()}").touch()
            yield from super().train(spec, state)
            while not kept[spec.name].exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)

    launch = Launch(splits, tmp_path / "cache", WorkerPool(1, 1.0, 0.0), n_learners=2)
    kept = {  # the file that is written last
        spec.name: launch.cache.path(spec, key, "test")
        for spec, key in zip(launch.specs, launch.keys, strict=True)
    }
    monkeypatch.setattr(fleet_module, "BaseLearnerActor", ray.remote(DyingTrainer))
    assert launch.train() == 2
    begun = sorted(path.name.partition(" in ")[0] for path in tmp_path.glob("* in *"))
    assert begun == sorted(spec.name for spec in launch.specs)


def test_an_actor_that_dies_over_and_over_ends_the_training(
    splits: Splits, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(lambda *_: os._exit(1)))
    launch = Launch(splits, tmp_path, WorkerPool(1, 1.0, 0.0))
    with pytest.raises(RunFailedError, match="its actor died 5 times, the last time of this: "):
        launch.train()


@pytest.mark.parametrize("n_actors", [1, 2])
def test_an_actor_that_is_lost_for_want_of_memory_is_replaced_if_it_was_the_last(
    n_actors: int,
    splits: Splits,
    pool: WorkerPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost_once(spec: LearnerSpec, _: Progress | TrainedLearner) -> None:
        if len(spec.classes) == 1 and not (tmp_path / "lost").exists():  # these come last
            (tmp_path / "lost").touch()
            raise ray.exceptions.OutOfMemoryError("low on memory")  # as the driver hears of it

    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(lost_once))
    launch = Launch(splits, tmp_path / "cache", WorkerPool(n_actors, 1.0, 0.0))
    assert launch.train() == 12
    assert (tmp_path / "lost").exists()
    assert launch.fleet.n_started == 2


def test_a_signal_while_the_images_are_handed_to_ray_is_not_hidden(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Launch(splits, tmp_path, WorkerPool(1, 1.0, 0.0)).train()


def test_actors_and_their_calls_bear_names_for_the_dashboard(
    splits: Splits, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(spec: LearnerSpec, _: Progress | TrainedLearner) -> None:
        context = ray.get_runtime_context()
        names = context.get_actor_name(), context.get_task_name()
        if names not in [("base-learners-1", spec.name), ("base-learners-2", spec.name)]:
            raise ValueError(f"called {names} for {spec.name}")

    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(check))
    assert Launch(splits, tmp_path, pool).train() == 12


def test_as_many_actors_run_at_once_as_fit_on_the_declared_gpus(
    splits: Splits, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(*_: object) -> None:
        name = ray.get_runtime_context().get_actor_name()
        (tmp_path / f"{name} on GPU {ray.get_gpu_ids()}").touch()

    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(note))
    on_gpus = cluster_pool(0.6)
    assert on_gpus == WorkerPool(2, 1.0, 0.6)  # not three: a share is never of two GPUs
    assert Launch(splits, tmp_path / "cache", on_gpus).train() == 12
    names = {path.name for path in tmp_path.iterdir()} - {"cache"}
    assert len(names) == 2
    assert {name[-3:] for name in names} == {"[0]", "[1]"}


def test_actors_for_which_there_is_no_room_are_not_waited_for(
    splits: Splits, pool: WorkerPool, tmp_path: Path
) -> None:
    # Two cores: of five actors two run, one more than the pool thinks would fit on a busy cluster.
    assert Launch(splits, tmp_path, WorkerPool(5, 1.0, 0.0)).train() == 12


def test_a_failed_training_leaves_no_actor_behind(
    splits: Splits, pool: WorkerPool, tmp_path: Path
) -> None:
    diverging = replace(
        EXPERIMENT, learner_recipe=replace(EXPERIMENT.learner_recipe, optimizer="sgd", lr=1e30)
    )
    launch = Launch(splits, tmp_path, pool)
    launch.fleet.experiment = diverging
    with pytest.raises(DivergedError, match=r"learner .*became"):
        launch.train()
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources().get("CPU") == 2
