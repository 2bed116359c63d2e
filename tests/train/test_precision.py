"""Training in bfloat16, and what `auto` chooses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.types import Experiment, Precision, Recipe
from distcel.rules.single_network import SingleNetwork
from distcel.storage.provenance import bfloat16_hardware
from distcel.train.cache import TrainedLearner
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import train_learner
from distcel.train.loop import predict
from distcel.train.precision import (
    choose_precision,
    describe_precision,
    resolved,
)
from distcel.train.selection import TrainingTask
from tests.train.golden import CPU, N_CLASSES, RESNET, plan, selection_task

SPEC = LearnerSpec("0+1", (0, 1))


def in_precision(learner: Precision, selector: Precision) -> Experiment:
    return replace(
        RESNET,
        learner_recipe=replace(RESNET.learner_recipe, precision=learner),
        selector_recipe=replace(RESNET.selector_recipe, precision=selector),
    )


def trained(precision: Precision, state: bytes | None = None) -> tuple[bytes, TrainedLearner]:
    """A base learner, and its state after the first epoch or from there on."""
    experiment = in_precision(precision, "float32")
    task = selection_task(experiment)
    first, *_, last = train_learner(
        SPEC, task, CPU, state, predicted=["train"], seconds_between_states=0.0
    )
    assert isinstance(last, TrainedLearner)
    return getattr(first, "state", None) or b"", last


@pytest.fixture(scope="module")
def learners() -> dict[Precision, TrainedLearner]:
    return {"float32": trained("float32")[1], "bfloat16": trained("bfloat16")[1]}


def test_a_learner_in_bfloat16_is_a_little_different(
    learners: Mapping[Precision, TrainedLearner],
) -> None:
    full, half = (
        torch.tensor(learners[name].weights["body.0.0.weight"]) for name in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert 1e-5 < (half - full).abs().max() < 0.1 * full.abs().max()


def test_predictions_are_float32_for_learners_of_any_precision(
    learners: Mapping[Precision, TrainedLearner],
) -> None:
    learner = learners["bfloat16"]
    network = plan(RESNET).build(N_CLASSES, 0)
    network.load_state_dict({name: torch.tensor(w) for name, w in learner.weights.items()})
    images = torch.tensor(selection_task(RESNET).train.images_SCHW)
    probs = predict(network, images).softmax(-1).numpy()
    np.testing.assert_array_equal(learner.probs_by_split["train"], probs)


def test_a_resumed_training_in_bfloat16_is_bitwise_the_one_without_a_break(
    learners: Mapping[Precision, TrainedLearner],
) -> None:
    state, _ = trained("bfloat16")
    assert state
    _, resumed = trained("bfloat16", state)
    for name, value in learners["bfloat16"].weights.items():
        np.testing.assert_array_equal(value, resumed.weights[name])


def test_only_the_selection_net_of_a_trial_computes_in_bfloat16() -> None:
    task = selection_task(in_precision("float32", "bfloat16"))
    training = task.begin(RESNET.first_trial, CPU)
    ensemble, images = training.ensemble.train(), torch.tensor(task.train.images_SCHW)
    net = ensemble.selection_net
    assert isinstance(net, nn.Module)
    in_float32 = task.plan.build(task.train.probs_SNC.shape[1], task.seed).train()
    scores = net(images)
    assert scores.dtype == torch.float32
    assert 1e-4 < (scores - in_float32(images)).abs().max() < 0.1
    probs = torch.tensor(task.train.probs_SNC)
    votes = (ensemble.select(images)[:, :, None] * probs).sum(1)  # type: ignore[operator]
    assert (ensemble(images, probs) - votes).abs().max() < 1e-6  # bfloat16 would be 4e-3 off
    result = training.run_epoch()
    assert 0 < result.train_loss < 3


def test_the_single_network_has_the_selection_nets_precision() -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        task = selection_task(in_precision("float32", precision))
        *_, network = SingleNetwork(2, 0.01).train(task, CPU, None)
        assert isinstance(network, TrainedNetwork)
        found.append(network.epochs[-1].train_loss)
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.1)


def test_a_users_network_trains_in_bfloat16_if_its_recipe_has_it() -> None:
    seen = []

    class Noting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            seen.append(out.dtype)
            return out

    def build(n_outputs: int, shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Noting(int(np.prod(shape)), n_outputs))

    experiment = replace(
        in_precision("bfloat16", "float32"), architecture=build, architecture_version="1"
    )
    given = selection_task(RESNET)
    network_plan = replace(given.plan, architecture=experiment.network)
    task = TrainingTask(experiment, network_plan, given.splits, 0)
    *_, last = train_learner(SPEC, task, CPU, predicted=["train"])
    assert isinstance(last, TrainedLearner)
    assert {torch.bfloat16, torch.float32} == set(seen)  # in training, in prediction
    assert last.probs_by_split["train"].dtype == np.float32


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        (Architecture("resnet9", (64, 128, 256, 512)), "bfloat16"),
        (Architecture("resnet9", (8, 16, 32, 64)), "bfloat16"),
        (Architecture("resnet9", (2, 4, 8, 16)), "float32"),
        (Architecture("resnet18"), "bfloat16"),
        (Architecture("efficientnet_lite0"), "float32"),
        (Architecture("lenet", (32, 64)), "bfloat16"),
        (Architecture("lenet", (6, 16)), "float32"),
        (Architecture("lenet", (10, 20)), "float32"),
        (OwnArchitecture(lambda *_: nn.Flatten(), "1"), "float32"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_auto_is_bfloat16_for_wide_networks_where_the_hardware_has_it(
    architecture: Architecture | OwnArchitecture, expected: Precision
) -> None:
    assert choose_precision(architecture, "AMX") == expected
    assert choose_precision(architecture, None) == "float32"


@pytest.mark.parametrize(
    ("capabilities", "hardware"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "AMX"),
        ({"amx_bf16": False, "avx512_bf16": True}, "AVX512-BF16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, None),
        ({"architecture": "arm64", "neon": True, "bf16": True}, None),
    ],
)
def test_auto_depends_on_the_processor(
    capabilities: dict[str, object], hardware: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: capabilities)
    assert bfloat16_hardware() == hardware
    wide = replace(in_precision("auto", "auto"), architecture=Architecture("resnet18"))
    found = resolved(wide)
    expected = "float32" if hardware is None else "bfloat16"
    assert found.learner_recipe.precision == found.selector_recipe.precision == expected
    as_asked = in_precision("bfloat16", "float32")
    assert resolved(as_asked) == as_asked


@pytest.mark.parametrize("emulated", [False, True])
def test_auto_depends_on_the_gpu_where_there_is_one(
    emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or not emulated

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "H200")
    assert bfloat16_hardware() == (None if emulated else "H200")


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").is_file() or torch.cuda.is_available(), reason="wants Linux, no GPU"
)
def test_this_machines_processor_has_the_flags_of_linux() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    named = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    assert bfloat16_hardware() == next((named[flag] for flag in named if flag in flags), None)


def test_the_log_has_the_precision_of_each_training(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "distcel.train.precision.bfloat16_hardware"
    monkeypatch.setattr(place, lambda: "AMX")
    assert describe_precision(in_precision("float32", "float32")) == (
        "trained in float32: base learners and selection net"
    )
    assert describe_precision(in_precision("bfloat16", "float32")) == (
        "trained in bfloat16: base learners; in float32: selection net; bfloat16 by AMX"
    )
    monkeypatch.setattr(place, lambda: None)
    assert describe_precision(in_precision("bfloat16", "bfloat16")) == (
        "trained in bfloat16: base learners and selection net; bfloat16 by emulation, which is slow"
    )


def test_a_description_names_no_float32_and_none_is_made_of_auto() -> None:
    recipe = Recipe("sgd", 0.1, 2, 8, momentum=0.9)
    before = {
        "optimizer": "sgd",
        "lr": 0.1,
        "epochs": 2,
        "batch_size": 8,
        "schedule": "constant",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "augmentation": "none",
        "gamma": 0.9,
    }
    assert recipe.description() == before  # what keys have in run directories without a precision
    assert replace(recipe, precision="float32").description() == before
    half = replace(recipe, precision="bfloat16")
    assert half.description() == before | {"precision": "bfloat16"}
    with pytest.raises(AssertionError):
        replace(recipe, precision="auto").description()
