import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from torch import Tensor

from distcel import kept_training
from distcel.actor_pool import ActorPool
from distcel.checks import RunFailedError
from distcel.estimate import count_samples
from distcel.gating import GatedEnsemble
from distcel.kept_training import TrainableRule, train_missing
from distcel.learners import Progress
from distcel.predictions import CachedSplit
from distcel.refit import SmartRule
from distcel.selection import SelectionTask, TaskRef
from distcel.single_network import SingleNetwork
from distcel.storage import write_sealed
from distcel.trained_network import TrainedNetwork
from distcel.trained_rules import rules_beyond, trained_rules
from distcel.types import EpochResult, learner_specs
from tests.distcel.test_ensemble import CPU, PARAMS
from tests.distcel.test_gating import task_of

SPECS = learner_specs(("a", "b", "c", "d"))
TASK = task_of(epochs=2)
COUNTS = count_samples(TASK.train.labels_S, SPECS, TASK.experiment, "train", 0)


@pytest.fixture(scope="module")
def ref(pool: ActorPool) -> TaskRef:
    return ray.put(TASK)


def dying(folder: Path, times: int) -> TrainableRule:
    """A rule whose worker dies so often, each time after a state; it ends with what it has."""

    @dataclass(frozen=True)
    class Dying:
        folder: str
        times: int

        def train(
            self, task: SelectionTask, device: torch.device, state: bytes | None
        ) -> Iterator[Progress | TrainedNetwork]:
            history = (state or b"") + b"x"
            if len(history) <= self.times:
                yield Progress(len(history), 0.0, history)
                while not list(Path(self.folder).glob("*.state")):
                    pass  # the driver keeps the first; a later one replaces it
                os._exit(1)
            result = EpochResult(1, 0.0, 0.0, 1.0, 0.0, 1)
            yield TrainedNetwork({"history": np.array([len(history)])}, 1.0, (result,))

        def predict(
            self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit
        ) -> Tensor:
            raise NotImplementedError

    return Dying(str(folder), times)


def test_all_are_trained_once_and_vote(pool: ActorPool, ref: TaskRef, tmp_path: Path) -> None:
    rules = rules_beyond(TASK, PARAMS, COUNTS) | {"k = 1": SmartRule(replace(PARAMS, k=1))}
    found = trained_rules(rules, TASK, ref, TASK.valid, pool, tmp_path)
    assert set(found) == set(rules)
    for rule in found.values():
        assert rule.probs_SC.shape == (160, 4)
        np.testing.assert_allclose(rule.probs_SC.sum(1), 1, rtol=1e-5)
        right = (rule.probs_SC.argmax(1) == TASK.valid.labels_S).mean()
        assert right == rule.valid_accuracy
    # 4 learners of one class of 80 samples, 6 of two of 160, two epochs; 2 of the selection net.
    whole, brief = found["single network"], found["brief single network"]
    assert (whole.n_passes, whole.n_epochs) == (2880, 18)
    assert (brief.n_passes, brief.n_epochs) == (320, 2)
    assert found["soft gating"].n_passes == 320
    again = trained_rules(rules, TASK, ref, TASK.valid, pool, tmp_path)
    for title, rule in found.items():
        assert again[title].seconds == rule.seconds  # its own, so it was not trained again
        np.testing.assert_array_equal(again[title].probs_SC, rule.probs_SC)


def test_a_damaged_file_alone_is_made_again(pool: ActorPool, ref: TaskRef, tmp_path: Path) -> None:
    rules: dict[str, TrainableRule] = {
        "one": SingleNetwork(1, 1.0),
        "soft": GatedEnsemble("soft gating", PARAMS),
    }
    before = train_missing(rules, ref, pool, tmp_path)
    (path,) = tmp_path.glob("soft-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = train_missing(rules, ref, pool, tmp_path)
    assert after["one"].epochs == before["one"].epochs
    assert after["soft"].epochs[0].ended_ms > before["soft"].epochs[0].ended_ms
    assert after["soft"].epochs[0].train_loss == before["soft"].epochs[0].train_loss
    assert path.with_name(f"{path.name}.damaged").exists()


def test_another_trial_is_another_file(pool: ActorPool, ref: TaskRef, tmp_path: Path) -> None:
    for k in (1, 2):
        rule = GatedEnsemble("straight-through", replace(PARAMS, k=k))
        train_missing({"hard": rule}, ref, pool, tmp_path)
    assert len(list(tmp_path.glob("hard-*.safetensors"))) == 2


def test_a_killed_launchs_single_network_goes_on(
    pool: ActorPool, ref: TaskRef, tmp_path: Path
) -> None:
    rules = {"single": SingleNetwork(3, 1.0)}
    train_missing(rules, ref, pool, tmp_path)
    (path,) = tmp_path.glob("single-*.safetensors")
    path.unlink()
    run = SingleNetwork(3, 1.0).begin(TASK, CPU)
    first = run.run_epoch()
    write_sealed(path.with_suffix(".state"), run.save())
    network = train_missing(rules, ref, pool, tmp_path)["single"]
    assert network.epochs[0] == first
    assert [result.epoch for result in network.epochs] == [1, 2, 3]
    assert not path.with_suffix(".state").exists()


def test_a_dead_workers_rule_goes_on_from_its_state(
    pool: ActorPool, ref: TaskRef, tmp_path: Path
) -> None:
    found = train_missing({"dying": dying(tmp_path, 1)}, ref, pool, tmp_path)
    assert found["dying"].weights["history"] == [2]


def test_a_rule_whose_workers_die_over_and_over_ends_the_launch(
    pool: ActorPool, ref: TaskRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_training, "_MAX_DEATHS", 2)
    with pytest.raises(RunFailedError, match="dying: its worker died 2 times"):
        train_missing({"dying": dying(tmp_path, 99)}, ref, pool, tmp_path)


def test_a_rule_that_diverges_is_left_out(
    pool: ActorPool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules: dict[str, TrainableRule] = {
        "single": SingleNetwork(1, 1e30),
        "soft": GatedEnsemble("soft gating", PARAMS),
    }
    found = train_missing(rules, ray.put(TASK), pool, tmp_path)
    assert set(found) == {"soft"}
    assert "single: " in capsys.readouterr().out
