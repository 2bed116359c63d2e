import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import torch
from torch import Tensor

from distcel.execute import workers
from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import RunFailedError
from distcel.rules import gating, kept_training
from distcel.rules.gating import GatedEnsemble
from distcel.rules.kept_training import TrainableRule, train_missing
from distcel.rules.single_network import SingleNetwork
from distcel.search.selection import SelectionTask, TaskRef
from distcel.storage.files import write_sealed
from distcel.train import trained_network, training_state
from distcel.train.cache import CachedSplit
from distcel.train.learner import Progress
from distcel.train.loop import DivergedError
from distcel.train.trained_network import TrainedNetwork
from distcel.train.trial_record import EpochResult
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

TASK = task_of(epochs=2)


@pytest.fixture(scope="module")
def ref(pool: WorkerPool) -> TaskRef:
    return ray.put(TASK)


@dataclass(frozen=True)
class Failing:
    """Fails in its first attempts, `how` says how; it ends with how often it was begun.

    With `states`, each attempt leaves a state first.
    """

    folder: str
    how: str
    times: int
    states: bool = False

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        begun = Path(self.folder) / f"{self.how}-begun"
        n_begun = len(begun.read_text()) + 1 if begun.exists() else 1
        begun.write_text("x" * n_begun)
        if n_begun <= self.times:
            if self.states:
                state = b"x" * n_begun
                yield Progress(n_begun, 0.0, state)
                while not any(state in path.read_bytes() for path in begun.parent.glob("*.state")):
                    pass  # until the driver has kept it
            if self.how == "memory":  # as the driver hears of a node that is low on it
                raise ray.exceptions.OutOfMemoryError("low on memory")
            if self.how == "gpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            if self.how == "object":  # as it does of a task that cannot be fetched
                raise ray.exceptions.ObjectFetchTimedOutError("00" * 28, None, "")
            os._exit(1)
        result = EpochResult(1, 0.0, 0.0, 1.0, 0.0, 1)
        facts = {"n_begun": np.array([n_begun]), "state": np.array([len(state or b"")])}
        facts["pid"] = np.array([os.getpid()])
        yield TrainedNetwork(facts, 1.0, (result,))
        if self.how == "after its last words":
            while not any(begun.parent.glob("*.safetensors")):
                pass  # until the driver has kept them
            os._exit(1)

    def predict(self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit) -> Tensor:
        raise NotImplementedError


def train(
    rules: dict[str, TrainableRule], ref: TaskRef, pool: WorkerPool, folder: Path
) -> dict[str, TrainedNetwork]:
    """As `train_missing`, where none diverges."""
    found = train_missing(rules, ref, pool, folder)
    return {title: x for title, x in found.items() if isinstance(x, TrainedNetwork)}


def test_a_damaged_file_alone_is_made_again(pool: WorkerPool, ref: TaskRef, tmp_path: Path) -> None:
    rules: dict[str, TrainableRule] = {
        "one": SingleNetwork(1, 1.0),
        "soft": GatedEnsemble("soft_gating", PARAMS),
    }
    before = train(rules, ref, pool, tmp_path)
    (path,) = tmp_path.glob("soft-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = train(rules, ref, pool, tmp_path)
    assert after["one"].epochs == before["one"].epochs
    assert after["soft"].epochs[0].ended_ms > before["soft"].epochs[0].ended_ms
    assert after["soft"].epochs[0].train_loss == before["soft"].epochs[0].train_loss
    assert path.with_name(f"{path.name}.damaged").exists()


def test_another_trial_is_another_file(pool: WorkerPool, ref: TaskRef, tmp_path: Path) -> None:
    for k in (1, 2):
        rule = GatedEnsemble("straight_through", replace(PARAMS, k=k))
        train_missing({"hard": rule}, ref, pool, tmp_path)
    assert len(list(tmp_path.glob("hard-*.safetensors"))) == 2


def test_a_killed_launchs_single_network_goes_on(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path
) -> None:
    rules: dict[str, TrainableRule] = {"single": SingleNetwork(3, 1.0)}
    train_missing(rules, ref, pool, tmp_path)
    (path,) = tmp_path.glob("single-*.safetensors")
    path.unlink()
    run = SingleNetwork(3, 1.0).begin(TASK, CPU)
    first = run.run_epoch()
    write_sealed(path.with_suffix(".state"), run.save())
    network = train(rules, ref, pool, tmp_path)["single"]
    assert network.epochs[0] == first
    assert [result.epoch for result in network.epochs] == [1, 2, 3]
    assert not path.with_suffix(".state").exists()


def test_a_dead_workers_rule_goes_on_from_its_state(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_training, "MAX_DEATHS", 2)  # a kept state makes up for a death
    rule = Failing(str(tmp_path), "death", times=3, states=True)
    network = train({"dying": rule}, ref, pool, tmp_path)["dying"]
    assert int(network.weights["n_begun"][0]) == 4
    assert int(network.weights["state"][0]) == 3


def test_a_rule_whose_worker_dies_after_its_last_words_is_not_trained_again(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path
) -> None:
    rule = Failing(str(tmp_path), "after its last words", times=0)
    assert train({"dying": rule}, ref, pool, tmp_path)["dying"].weights["n_begun"] == 1
    assert (tmp_path / "after its last words-begun").read_text() == "x"


def test_a_rule_whose_workers_die_over_and_over_ends_the_launch_when_the_others_are_kept(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kept_training, workers):
        monkeypatch.setattr(module, "MAX_DEATHS", 2)
    rules: dict[str, TrainableRule] = {
        "dying": Failing(str(tmp_path), "death", times=99),
        "single": SingleNetwork(2, 1.0),
    }
    with pytest.raises(RunFailedError, match="dying: its worker died 2 times, the last time of"):
        train_missing(rules, ref, pool, tmp_path)
    assert len(list(tmp_path.glob("single-*.safetensors"))) == 1


def test_a_worker_frees_its_gpu_by_ending(pool: WorkerPool, ref: TaskRef, tmp_path: Path) -> None:
    rule = Failing(str(tmp_path), "death", times=0)
    network = train({"brief": rule}, ref, WorkerPool(1, 1.0, 0.5), tmp_path)["brief"]
    psutil.wait_procs(
        [process for process in psutil.process_iter() if process.pid == network.weights["pid"][0]],
        timeout=60,
    )
    assert not psutil.pid_exists(int(network.weights["pid"][0]))


def test_what_is_lost_for_want_of_memory_waits_for_another_to_end(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_training, "MAX_DEATHS", 1)
    rules: dict[str, TrainableRule] = {
        "greedy": Failing(str(tmp_path), "memory", times=1),
        "single": SingleNetwork(2, 1.0),
    }
    found = train(rules, ref, pool, tmp_path)
    assert found["greedy"].weights["n_begun"] == 2
    assert len(found["single"].epochs) == 2
    with pytest.raises(RunFailedError, match="low on memory"):  # nobody to wait for
        train_missing({"alone": Failing(str(tmp_path), "memory", 9)}, ref, pool, tmp_path)


def test_a_task_that_is_lost_on_its_way_is_fetched_again(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path
) -> None:
    found = train({"remote": Failing(str(tmp_path), "object", times=1)}, ref, pool, tmp_path)
    assert found["remote"].weights["n_begun"] == 2


def test_a_full_gpu_is_one_line_with_the_remedy(
    pool: WorkerPool, ref: TaskRef, tmp_path: Path
) -> None:
    rule = Failing(str(tmp_path), "gpu", times=9)
    with pytest.raises(RunFailedError, match="large: its GPU has too little memory: give a larger"):
        train_missing({"large": rule}, ref, pool, tmp_path)


def test_a_rule_that_diverges_says_how_and_is_not_trained_again(
    pool: WorkerPool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules: dict[str, TrainableRule] = {
        "single": SingleNetwork(1, 1e30),
        "soft": GatedEnsemble("soft_gating", PARAMS),
    }
    found = train_missing(rules, ray.put(TASK), pool, tmp_path)
    assert isinstance(found["single"], DivergedError)
    assert isinstance(found["soft"], TrainedNetwork)
    assert capsys.readouterr().out == f"{found['single']}\n"
    assert str(found["single"]).startswith("single: ")

    def no_start(_: object) -> None:
        raise AssertionError("it is trained again")

    monkeypatch.setattr(kept_training._Job, "start", no_start)
    again = train_missing(rules, ray.put(TASK), pool, tmp_path)
    assert str(again["single"]) == str(found["single"])


def test_other_code_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = GatedEnsemble("soft_gating", PARAMS)
    names = {kept_training._file_name("soft", rule)}
    assert kept_training._file_name("soft", GatedEnsemble("soft_gating", PARAMS)) in names
    source = inspect.getsource
    for part in (gating, trained_network, training_state, EpochResult):
        changed = f"{source(part)}\nchanged = True\n"
        monkeypatch.setattr(inspect, "getsource", lambda x: changed if x is part else source(x))  # noqa: B023
        names.add(kept_training._file_name("soft", rule))
    assert len(names) == 5
