"""The families of networks: from standardised images, or numbers, to scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcel.experiment.errors import invalid, require


def lenet(channels: tuple[int, ...], image_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
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


def resnet9(channels: tuple[int, ...], image_shape: tuple[int, ...], n_outputs: int) -> nn.Module:
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


def resnet18(
    image_shape: tuple[int, ...], n_outputs: int, weights: dict[str, Tensor] | None
) -> nn.Module:
    """Torchvision's ResNet18, the paper's UTKFace learner; its last layer is always untrained."""
    from torchvision.models import resnet18

    require(image_shape[0] == 3, "3 channels for resnet18", image_shape[0], "give colour images")
    return _with_weights(resnet18(num_classes=n_outputs), weights, "fc.", "torchvision's resnet18")


def efficientnet_lite0(
    image_shape: tuple[int, ...], n_outputs: int, weights: dict[str, Tensor] | None
) -> nn.Module:
    """EfficientNet-Lite0 of the package efficientnet-lite-pytorch; its last layer is untrained.

    Without its dropout and stochastic depth, which would draw from torch's own generator: a
    training that was interrupted could not continue with the same draws.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError:
        remedy = "pip install 'distcel[efficientnet]'"
        raise invalid("the package efficientnet-lite-pytorch", "none", remedy) from None
    depth, *sides = image_shape
    require(depth == 3, "3 channels for efficientnet_lite0", depth, "give colour images")
    network = EfficientNet.from_name(
        "efficientnet-lite0",
        num_classes=n_outputs,
        image_size=sides,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    )
    return _with_weights(network, weights, "_fc.", "efficientnet-lite-pytorch's efficientnet-lite0")


def _with_weights(
    network: nn.Module, weights: dict[str, Tensor] | None, last: str, name: str
) -> nn.Module:
    """The network with all given weights but those whose names begin with `last`."""
    if weights is None:
        return network

    def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {key: tuple(v.shape) for key, v in state.items() if not key.startswith(last)}

    fits = shapes(weights) == shapes(network.state_dict())
    require(fits, f"the weights of {name}", sorted(weights)[:3], "give a file saved from it")
    network.load_state_dict({key: weights[key] for key in shapes(weights)}, strict=False)
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


def mlp(widths: tuple[int, ...], n_inputs: int, n_outputs: int, seed: int) -> nn.Module:
    """Two hidden layers with layer norm and dropout, for numbers in place of images."""
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(zip((n_inputs, *widths), widths, strict=False)):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU()]
        layers.append(_SeededDropout(0.1, seed + i))
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs))
