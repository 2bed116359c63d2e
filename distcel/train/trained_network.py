"""A network that was trained and measured epoch by epoch, as bytes: safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from safetensors.numpy import load
from torch import Tensor

from distcel.storage.files import safetensors_bytes
from distcel.train.cache import Weights
from distcel.train.trial_record import EpochResult

_PREFIX = "network/"


@dataclass(frozen=True)
class TrainedNetwork:
    """What a training leaves.

    Attributes:
        weights: of the network, after the epoch that counts.
        valid_accuracy: of these weights on the valid split, as a fraction.
        epochs: all of them.
    """

    weights: Weights
    valid_accuracy: float
    epochs: tuple[EpochResult, ...]

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """The weights, for a module's `load_state_dict`."""
        return {name: torch.tensor(value) for name, value in self.weights.items()}

    @property
    def seconds(self) -> float:
        """That all epochs took."""
        return sum(epoch.seconds for epoch in self.epochs)

    def to_bytes(self) -> bytes:
        """Everything, for `from_bytes`."""
        facts = {"valid_accuracy": self.valid_accuracy, "epochs": [asdict(e) for e in self.epochs]}
        arrays = {f"{_PREFIX}{name}": value for name, value in self.weights.items()}
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        return safetensors_bytes(arrays)

    @staticmethod
    def from_bytes(content: bytes) -> TrainedNetwork:
        """What `to_bytes` gave."""
        arrays = load(content)
        facts = json.loads(arrays.pop("facts").tobytes())
        weights = {name.removeprefix(_PREFIX): value for name, value in arrays.items()}
        epochs = tuple(EpochResult(**result) for result in facts["epochs"])
        return TrainedNetwork(weights, facts["valid_accuracy"], epochs)
