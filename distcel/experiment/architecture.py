"""The networks' architectures: the paper's families, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from distcel.experiment.errors import require, require_count


@dataclass(frozen=True)
class Architecture:
    """A network's family and the widths of its convolutions or hidden layers.

    `lenet` takes two widths, `resnet9` four; `resnet18`, torchvision's, and `efficientnet_lite0`,
    which the extra `efficientnet` installs, take none. `mlp`, for numbers in place of images, takes
    two.
    """

    family: Literal["lenet", "resnet9", "resnet18", "efficientnet_lite0", "mlp"]
    channels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        widths = {"lenet": 2, "resnet9": 4, "resnet18": 0, "efficientnet_lite0": 0, "mlp": 2}
        known = isinstance(self.family, str) and self.family in widths
        require(known, f"family in {sorted(widths)}", self.family, "choose one")
        count = widths[self.family]
        fits = isinstance(self.channels, tuple) and len(self.channels) == count
        require(fits, f"{count} channel widths for {self.family}", self.channels, "give that many")
        for width in self.channels:
            require_count("channel width", width)

    @property
    def name(self) -> str:
        """The name that messages show."""
        return self.family

    def description(self) -> dict[str, Any]:
        """Everything that determines the networks, as JSON."""
        return asdict(self)


# From a number of outputs and an image shape (channels, height, width) to a torch.nn.Module, which
# maps standardised float images (B, channels, height, width) to scores (B, outputs). Where the net
# sees numbers in place of images, their shape is (F,).
NetworkFunction = Callable[[int, Any], Any]


@dataclass(frozen=True)
class OwnArchitecture:
    """A user's function that builds a network, and the version that is part of its cache keys."""

    build: NetworkFunction
    version: str

    def __post_init__(self) -> None:
        known = isinstance(self.version, str) and self.version != ""
        rule = "an architecture_version beside a function as architecture"
        require(known, rule, self.version, "give a text, and another one whenever it changes")

    @property
    def name(self) -> str:
        """The name that messages show."""
        return getattr(self.build, "__name__", type(self.build).__name__)

    def description(self) -> dict[str, Any]:
        """Everything that determines the networks, as JSON."""
        return {"function": self.name, "version": self.version}
