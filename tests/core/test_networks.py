import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from distcel.core.networks import NetworkPlan
from distcel.core.pretrained import STANDARDISATION, imagenet_weights
from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.errors import InvalidInputError

LENET = Architecture("lenet", (6, 16))
RESNET9 = Architecture("resnet9", (64, 128, 256, 512))


def plan(architecture: Architecture, channels: int = 3, side: int = 32) -> NetworkPlan:
    return NetworkPlan(architecture, (channels, side, side), (0.5,) * channels, (0.25,) * channels)


@pytest.mark.parametrize(
    ("architecture", "side", "convolutions", "linears"),
    [
        (LENET, 32, [6, 16], [120, 84, 7]),
        (Architecture("lenet", (10, 20)), 28, [10, 20], [120, 84, 7]),
        (RESNET9, 48, [64, 128, 128, 128, 256, 512, 512, 512], [7]),
    ],
)
def test_layers_have_the_papers_widths(
    architecture: Architecture, side: int, convolutions: list[int], linears: list[int]
) -> None:
    network = plan(architecture, 1, side).build(7, seed=0)
    modules = list(network.modules())
    assert [m.out_channels for m in modules if isinstance(m, nn.Conv2d)] == convolutions
    assert [m.out_features for m in modules if isinstance(m, nn.Linear)] == linears
    images = torch.randint(0, 256, (3, 1, side, side), dtype=torch.uint8)
    assert network(images).shape == (3, 7)


def test_images_are_standardised_by_channel() -> None:
    seen = []
    mean, std = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)
    network = NetworkPlan(LENET, (3, 32, 32), mean, std).build(5, seed=0)
    network.body = nn.Sequential(nn.Flatten(2))
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    seen = network(images)
    expected = (images.flatten(2) / 255 - torch.tensor(mean)[:, None]) / torch.tensor(std)[:, None]
    torch.testing.assert_close(seen, expected)


def test_the_weights_depend_on_the_seed_and_torchs_own_generator_is_not_changed() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = (plan(LENET).build(5, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    weights = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("too_small", "message"),
    [(plan(LENET, 1, 15), "image sides >= 16"), (plan(RESNET9, 1, 7), "image sides >= 8")],
)
def test_images_too_small_for_the_network_are_refused(too_small: NetworkPlan, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{message} .* set a larger image_size"):
        too_small.build(5, seed=0)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_resnet18_starts_from_a_file_but_for_its_last_layer(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"resnet18{suffix}"
    state = resnet18().state_dict()
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    given = plan(Architecture("resnet18"))
    weights = imagenet_weights("resnet18", str(path))
    network = NetworkPlan(given.architecture, given.image_shape, given.mean, given.std, weights)
    built = network.build(5, seed=0).body.state_dict()
    assert torch.equal(built["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"])
    assert built["fc.weight"].shape == (5, 512)
    assert network.description() != given.description()


def test_weights_of_any_type_are_described() -> None:
    def described(value: float) -> object:
        weights = {"a": torch.full((2, 3), value, dtype=torch.bfloat16), "b": torch.tensor(7)}
        plan = NetworkPlan(Architecture("resnet18"), (3, 32, 32), (0.5,) * 3, (0.2,) * 3, weights)
        return plan.description()

    assert described(0.5) == described(0.5) != described(0.25)


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint"])
def test_unusable_weights_name_the_flag_for_random_ones(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match="--imagenet-weights none") as caught:
        imagenet_weights("resnet18", str(path))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InvalidInputError, match="ImageNet weights"):
        imagenet_weights("resnet18", str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_efficientnet_lite0_starts_from_its_package_but_for_its_last_layer() -> None:
    given = plan(Architecture("efficientnet_lite0"))
    weights = imagenet_weights("efficientnet_lite0", "published")
    assert weights is not None
    built = replace(given, imagenet_weights=weights).build(5, seed=0)
    state = built.body.state_dict()
    assert all(state[name].equal(value) for name, value in weights.items() if name[:3] != "_fc")
    assert state["_fc.weight"].shape == (5, 1280)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    before = torch.get_rng_state()
    built.train()(images).sum().backward()
    assert torch.get_rng_state().equal(before)  # or a training could not continue with its draws
    with pytest.raises(InvalidInputError, match="weights of efficientnet-lite-pytorch's"):
        replace(given, imagenet_weights={"conv.weight": torch.zeros(1)}).build(5, seed=0)
    assert STANDARDISATION["efficientnet_lite0"][0][0] * 255 == pytest.approx(127)


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'distcel\[efficientnet\]'"):
        plan(Architecture("efficientnet_lite0")).build(5, seed=0)


def test_weights_of_another_network_are_refused() -> None:
    given = plan(Architecture("resnet18"))
    weights = {"conv.weight": torch.zeros(1)}
    network = NetworkPlan(given.architecture, given.image_shape, given.mean, given.std, weights)
    with pytest.raises(InvalidInputError, match="weights of torchvision's resnet18"):
        network.build(5, seed=0)
    assert imagenet_weights("resnet18", "none") is None


def own_network(n_outputs: int, image_shape: tuple[int, int, int]) -> torch.nn.Module:
    n_pixels = math.prod(image_shape)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_pixels, n_outputs))


def test_a_users_function_builds_the_networks() -> None:
    own = OwnArchitecture(own_network, "1")
    plan = NetworkPlan(own, (3, 5, 7), (0.5,) * 3, (0.25,) * 3)
    network = plan.build(4, seed=0)
    images = torch.randint(0, 256, (6, 3, 5, 7), dtype=torch.uint8)
    assert network(images).shape == (6, 4)
    again = plan.build(4, seed=0).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())
    assert network.training
    other = replace(plan, architecture=OwnArchitecture(own_network, "2"))
    assert plan.description() != other.description()


def test_a_function_that_builds_something_else_is_refused() -> None:
    def wrong(n_outputs: int, image_shape: tuple[int, int, int]) -> torch.nn.Module:
        return own_network(n_outputs + 1, image_shape)

    def number(n_outputs: int, image_shape: tuple[int, int, int]) -> int:
        return 3

    for function, found in ((wrong, r"\(2, 5\)"), (number, "'int'")):
        plan = NetworkPlan(OwnArchitecture(function, "1"), (1, 4, 4), (0.5,), (0.25,))
        with pytest.raises(InvalidInputError, match=f"from {function.__name__}.*got {found}"):
            plan.build(4, seed=0)
    with pytest.raises(InvalidInputError, match="an architecture_version beside a function"):
        OwnArchitecture(own_network, "")


@pytest.mark.parametrize("architecture", [LENET, Architecture("resnet9", (2, 3, 4, 5))])
def test_the_scores_are_a_linear_function_of_the_embedding(architecture: Architecture) -> None:
    network = plan(architecture).build(5, seed=0).eval()
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        embedded, last = network.embed(images), [*network.body.children()][-1]
        assert embedded.shape == (4, last.in_features)
        torch.testing.assert_close(last(embedded), network(images))
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_a_linear_layer_is_embedded_by_its_scores() -> None:
    network = plan(LENET).build(5, seed=0)
    network.body = nn.Sequential(nn.Conv2d(3, 5, 32), nn.Flatten())
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert network.embed(images).equal(network(images))
