"""Networks that are trained on a selection task and kept, by either executor."""

from dataclasses import replace
from pathlib import Path

import pytest

from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Failed
from distcel.rules.gating import GatedEnsemble
from distcel.rules.single_network import SingleNetwork
from distcel.search.kept import TrainableRule, train_missing
from distcel.storage.files import write_sealed
from distcel.train.checkpoint import TrainedNetwork
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

TASK, INLINE = task_of(epochs=2), InlineExecutor()


def train(rules: dict[str, TrainableRule], folder: Path) -> dict[str, TrainedNetwork]:
    """`train_missing`, where no training diverges."""
    found = train_missing(rules, TASK, INLINE, folder)
    return {title: one for title, one in found.items() if isinstance(one, TrainedNetwork)}


def test_only_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    rules: dict[str, TrainableRule] = {
        "one": SingleNetwork(1, 1.0),
        "soft": GatedEnsemble("soft_gating", PARAMS),
    }
    before = train(rules, tmp_path)
    (path,) = tmp_path.glob("soft-*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = train(rules, tmp_path)
    assert after["one"].epochs == before["one"].epochs
    assert after["soft"].epochs[0].ended_ms > before["soft"].epochs[0].ended_ms
    assert after["soft"].epochs[0].train_loss == before["soft"].epochs[0].train_loss
    assert path.with_name(f"{path.name}.damaged").exists()


def test_another_point_is_another_file(tmp_path: Path) -> None:
    for k in (1, 2):
        rule = GatedEnsemble("straight_through", replace(PARAMS, k=k))
        train_missing({"hard": rule}, TASK, INLINE, tmp_path)
    assert len(list(tmp_path.glob("hard-*.safetensors"))) == 2


@pytest.mark.parametrize("place", ["distcel.search.kept.CACHE_VERSION", "torch.__version__"])
def test_another_version_is_another_file(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: dict[str, TrainableRule] = {"soft": GatedEnsemble("soft_gating", PARAMS)}
    train_missing(rules, TASK, INLINE, tmp_path)
    monkeypatch.setattr(place, "2.99")
    train_missing(rules, TASK, INLINE, tmp_path)
    assert len(list(tmp_path.glob("soft-*.safetensors"))) == 2


def test_an_interrupted_single_network_continues(tmp_path: Path) -> None:
    rules: dict[str, TrainableRule] = {"single": SingleNetwork(3, 1.0)}
    train_missing(rules, TASK, INLINE, tmp_path)
    (path,) = tmp_path.glob("single-*.safetensors")
    path.unlink()
    run = SingleNetwork(3, 1.0).begin(TASK, CPU)
    first = run.run_epoch()
    write_sealed(path.with_suffix(".state"), run.save())
    network = train(rules, tmp_path)["single"]
    assert network.epochs[0] == first
    assert [result.epoch for result in network.epochs] == [1, 2, 3]
    assert not path.with_suffix(".state").exists()


def test_a_rule_that_diverges_is_failed_with_its_reason_and_not_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules: dict[str, TrainableRule] = {
        "single": SingleNetwork(1, 1e30),
        "soft": GatedEnsemble("soft_gating", PARAMS),
    }
    found = train_missing(rules, TASK, INLINE, tmp_path)
    assert isinstance(found["soft"], TrainedNetwork)
    assert isinstance(found["single"], Failed)
    assert found["single"].reason.startswith("single: ")
    assert found["single"].reason in caplog.messages
    for kind in (SingleNetwork, GatedEnsemble):
        monkeypatch.setattr(kind, "train", None)
    again = train_missing(rules, TASK, INLINE, tmp_path)
    assert again["single"] == found["single"]
