"""The networks of the paper's appendix, from uint8 images to scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.errors import invalid, require

# Of the ImageNet training set, in [0, 1], as torchvision's weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Network(nn.Module):
    """Standardises uint8 images (B, channels, height, width) and scores them: (B, outputs).

    In place of images it may have numbers, float32 (B, F).

    Args:
        body: maps standardised images to scores.
        mean: mean of each channel, on the scale of the images, of shape (channels, 1, 1); or of
            each number, (F,).
        std: standard deviation of each channel or number, likewise.
        in_bfloat16: whether the body computes in bfloat16 in training mode. Weights,
            standardisation and scores are float32 in any case.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: Tensor,
        std: Tensor,
        in_bfloat16: bool = False,
    ) -> None:
        super().__init__()
        self.body, self.in_bfloat16 = body, in_bfloat16
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Scores, before any softmax."""
        images_BCHW = (images_BCHW - self.mean) / self.std
        # In evaluation mode float32: the same weights give the same predictions on any machine.
        if not (self.in_bfloat16 and self.training):
            scores: Tensor = self.body(images_BCHW)
            return scores
        # Around the body alone: autocast would have a vote's products in bfloat16 as well.
        with torch.autocast(images_BCHW.device.type, torch.bfloat16):
            scores = self.body(images_BCHW)
        return scores.float()

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """The input of the linear layer that is computed last, shape (B, D).

        A body without a linear layer gives its scores.
        """
        inputs: list[Tensor] = []
        hooks = [
            layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
            for layer in self.body.modules()
            if isinstance(layer, nn.Linear)
        ]
        try:
            scores: Tensor = self(images_BCHW)
        finally:
            for hook in hooks:
                hook.remove()
        return (inputs[-1] if inputs else scores).flatten(1)


@dataclass(frozen=True)
class NetworkPlan:
    """Builds every network of a run, given its number of outputs and its seed.

    Attributes:
        architecture: family and widths, or a user's function.
        image_shape: channels, height, width; or (F,) of numbers in place of images.
        mean: mean of each channel over the train split, or ImageNet's, in [0, 1]; or of each
            number.
        std: standard deviation of each channel or number, likewise.
        imagenet_weights: state dict of torchvision's resnet18 to start from, or None.
    """

    architecture: Architecture | OwnArchitecture
    image_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    imagenet_weights: dict[str, Tensor] | None = None

    def description(self) -> dict[str, Any]:
        """Everything that determines the networks, as JSON, with the digest of the weights."""
        digest = hashlib.blake2b(digest_size=12)
        for name, value in sorted((self.imagenet_weights or {}).items()):
            as_bytes = value.cpu().contiguous().reshape(-1).view(torch.uint8)  # of bfloat16 too
            digest.update(name.encode() + as_bytes.numpy().tobytes())
        return {
            "architecture": self.architecture.description(),
            "image_shape": self.image_shape,
            "mean": self.mean,
            "std": self.std,
            "imagenet_weights": digest.hexdigest() if self.imagenet_weights else None,
        }

    def build(self, n_outputs: int, seed: int, in_bfloat16: bool = False) -> Network:
        """A network on the CPU; the same seed gives the same initial weights.

        Args:
            n_outputs: C for a base learner, N for a selection net.
            seed: seeds the initial weights; the state of torch's own generator is not changed.
            in_bfloat16: whether it is trained in bfloat16, as in `Recipe.in_bfloat16`.

        Raises:
            InvalidInputError: the images or the ImageNet weights do not fit the architecture.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = self._body(n_outputs, seed)
        # Channels last: up to half as fast again on a CPU, and what tensor cores want.
        network = Network(body, self._scaled(self.mean), self._scaled(self.std), in_bfloat16)
        return network.to(memory_format=torch.channels_last)

    def _scaled(self, of_each: tuple[float, ...]) -> Tensor:
        values = torch.tensor(of_each)
        return values if len(self.image_shape) == 1 else 255 * values.reshape(-1, 1, 1)

    def _body(self, n_outputs: int, seed: int) -> nn.Module:
        own = self.architecture
        if isinstance(own, OwnArchitecture):
            body = own.build(n_outputs, self.image_shape)
            rule = f"a torch.nn.Module from {own.name}"
            require(isinstance(body, nn.Module), rule, type(body).__name__, "return one")
            return _fitting(body, self.image_shape, n_outputs, own.name)
        numbers, rule = len(self.image_shape) == 1, f"images for the architecture {own.family}"
        if own.family == "mlp":
            rule = "numbers for the architecture mlp"
            require(numbers, rule, f"images of shape {self.image_shape}", "choose another one")
            return _mlp(own.channels, self.image_shape[0], n_outputs, seed)
        require(not numbers, rule, f"numbers of shape {self.image_shape}", "choose mlp")
        if own.family == "lenet":
            return _lenet(own.channels, self.image_shape, n_outputs)
        if own.family == "resnet9":
            return _resnet9(own.channels, self.image_shape, n_outputs)
        return _resnet18(self.image_shape, n_outputs, self.imagenet_weights)


def _fitting(body: nn.Module, image_shape: tuple[int, ...], n_outputs: int, name: str) -> nn.Module:
    """Return the module, after a check that it maps images to `n_outputs` scores."""
    rule = f"scores of shape (2, {n_outputs}) from {name} for two images of shape {image_shape}"
    was_training = body.training
    try:
        with torch.no_grad():
            found = body.eval()(torch.zeros(2, *image_shape))
    except Exception as error:  # whatever the user's function raises
        raise invalid(rule, f"{type(error).__name__}: {error}", "correct the function") from None
    body.train(was_training)
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    require(shape == (2, n_outputs), rule, shape, "correct the function")
    return body


def _lenet(channels: tuple[int, ...], image_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Two 5x5 convolutions and three linear layers: the paper's MNIST and CIFAR-10 learner."""
    first, second = channels
    depth, *sides = image_shape
    height, width = (((side - 4) // 2 - 4) // 2 for side in sides)
    require(
        min(height, width) >= 1, "image sides >= 16 for lenet", sides, "set a larger image_size"
    )
    return nn.Sequential(
        nn.Conv2d(depth, first, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(second * height * width, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, n_outputs),
    )


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


def _convolution(inputs: int, outputs: int, pool: bool = False) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _resnet9(channels: tuple[int, ...], image_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Eight 3x3 convolutions with batch norm and one linear layer: the paper's FER2013 learner.

    Widths (64, 128, 256, 512) give its 64, 128, 128, 128, 256, 512, 512, 512.
    """
    depth, *sides = image_shape
    require(min(sides) >= 8, "image sides >= 8 for resnet9", sides, "set a larger image_size")
    first, second, third, fourth = channels
    return nn.Sequential(
        _convolution(depth, first),
        _convolution(first, second, pool=True),
        _Residual(_convolution(second, second), _convolution(second, second)),
        _convolution(second, third, pool=True),
        _convolution(third, fourth, pool=True),
        _Residual(_convolution(fourth, fourth), _convolution(fourth, fourth)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(fourth, n_outputs),
    )


def _resnet18(
    image_shape: tuple[int, ...], n_outputs: int, weights: dict[str, Tensor] | None
) -> nn.Module:
    """Torchvision's ResNet18, the paper's UTKFace learner; its last layer is always untrained."""
    from torchvision.models import resnet18

    require(image_shape[0] == 3, "3 channels for resnet18", image_shape[0], "give colour images")
    network: nn.Module = resnet18(num_classes=n_outputs)
    if weights is not None:
        own = network.state_dict()
        given = {name: value for name, value in weights.items() if not name.startswith("fc.")}
        fits = {name: tuple(v.shape) for name, v in given.items()} == {
            name: tuple(v.shape) for name, v in own.items() if not name.startswith("fc.")
        }
        remedy = "give a file saved from torchvision's resnet18"
        require(fits, "the weights of torchvision's resnet18", sorted(weights)[:3], remedy)
        network.load_state_dict(given, strict=False)
    return network


class _SeededDropout(nn.Module):
    """Dropout whose draws come from its own seed, not from torch's own generator."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share, self.generator = share, torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self.generator).to(x.device) >= self.share
        return x * kept / (1 - self.share)


def _mlp(widths: tuple[int, ...], n_inputs: int, n_outputs: int, seed: int) -> nn.Module:
    """Two hidden layers with layer norm and dropout, for numbers in place of images."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip((n_inputs, *widths), widths, strict=False)):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
        layers.append(_SeededDropout(0.1, seed + i))
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))


def imagenet_weights(source: str) -> dict[str, Tensor] | None:
    """ResNet18's ImageNet weights.

    Args:
        source: `torchvision` (its cache, or else a download), `none`, or a file of a state dict,
            safetensors or what torch.save wrote.

    Raises:
        InvalidInputError: the weights cannot be loaded.
    """
    if source == "none":
        return None
    weights: Any
    try:
        if source == "torchvision":
            from torchvision.models import ResNet18_Weights

            weights = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
        elif source.endswith(".safetensors"):
            weights = load_file(source)
        else:
            weights = torch.load(source, map_location="cpu", weights_only=True)
        if not all(isinstance(value, Tensor) for value in dict(weights).values()):
            raise ValueError("it is not a state dict")
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        EOFError,
        SafetensorError,
        UnpicklingError,
    ) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        remedy = "give --imagenet-weights FILE, or --imagenet-weights none for random ones"
        raise invalid("ImageNet weights of ResNet18", f"{source!r} ({reason})", remedy) from None
    return dict(weights)
