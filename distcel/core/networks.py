"""The networks of the paper's appendix, from uint8 images to scores."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distcel.core import families
from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.errors import invalid, require


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
        imagenet_weights: state dict to start from, or None.
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
            return families.mlp(own.channels, self.image_shape[0], n_outputs, seed)
        require(not numbers, rule, f"numbers of shape {self.image_shape}", "choose mlp")
        if own.family == "lenet":
            return families.lenet(own.channels, self.image_shape, n_outputs)
        if own.family == "resnet9":
            return families.resnet9(own.channels, self.image_shape, n_outputs)
        pretrained = {
            "resnet18": families.resnet18,
            "efficientnet_lite0": families.efficientnet_lite0,
        }
        return pretrained[own.family](self.image_shape, n_outputs, self.imagenet_weights)


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
