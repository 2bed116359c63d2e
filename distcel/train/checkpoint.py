"""Results and states of trainings as bytes of safetensors and JSON, which need no unpickling.

A TrainedNetwork is a network with the measurements of its epochs. `save_training` returns the state
of a training between two epochs, from which `load_training` continues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.torch import load, save
from torch import Tensor

from distcel.experiment.errors import require, require_count, require_non_negative
from distcel.storage.files import safetensors_bytes
from distcel.storage.provenance import describe_worker
from distcel.train.loop import Training

Weights = dict[str, NDArray[np.generic]]
_PREFIX = "network/"


@dataclass(frozen=True)
class EpochResult:
    """The measurements of one epoch.

    Attributes:
        epoch: counted from 1.
        train_loss: mean cross entropy in nats.
        valid_loss: mean cross entropy in nats on the valid split.
        valid_accuracy: accuracy on the valid split, a fraction.
        seconds: duration, including the measurement of the valid split.
        ended_ms: when it ended, in milliseconds since 1970, on the worker's clock.
    """

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    ended_ms: int

    def __post_init__(self) -> None:
        require_count("epoch", self.epoch)
        require_count("ended_ms", self.ended_ms)
        for name in ("train_loss", "valid_loss", "valid_accuracy", "seconds"):
            require_non_negative(name, getattr(self, name))
        accuracy = self.valid_accuracy
        require(accuracy <= 1, "valid_accuracy <= 1", accuracy, "give a fraction")


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with the measurements of its training.

    Attributes:
        weights: the network's weights after the selected epoch.
        valid_accuracy: accuracy of these weights on the valid split, a fraction.
        epochs: the measurements of all epochs.
        worker: the worker that it was trained on, as `describe_worker` describes it there.
    """

    weights: Weights
    valid_accuracy: float
    epochs: tuple[EpochResult, ...]
    worker: Mapping[str, str] = field(default_factory=describe_worker)

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """The weights, for a module's `load_state_dict`."""
        return {name: torch.tensor(value) for name, value in self.weights.items()}

    @property
    def seconds(self) -> float:
        """Duration of all epochs."""
        return sum(epoch.seconds for epoch in self.epochs)

    def to_bytes(self) -> bytes:
        """The network as bytes, for `from_bytes`."""
        facts = {
            "valid_accuracy": self.valid_accuracy,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "worker": dict(self.worker),
        }
        arrays = {f"{_PREFIX}{name}": value for name, value in self.weights.items()}
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        return safetensors_bytes(arrays)

    @staticmethod
    def from_bytes(content: bytes) -> TrainedNetwork:
        """The network whose bytes `to_bytes` returned."""
        arrays = load_arrays(content)
        facts = json.loads(arrays.pop("facts").tobytes())
        weights = {name.removeprefix(_PREFIX): value for name, value in arrays.items()}
        epochs = tuple(EpochResult(**result) for result in facts["epochs"])
        return TrainedNetwork(weights, facts["valid_accuracy"], epochs, facts.get("worker", {}))


def save_training(training: Training) -> bytes:
    """The state from which `load_training` continues a training exactly."""
    optimizer = training.optimizer.state_dict()
    tensors: dict[str, Tensor] = {"generator": training.generator.get_state()}
    for name, value in training.network.state_dict().items():
        tensors[f"network/{name}"] = value.contiguous()
    for index, moments in optimizer["state"].items():
        for name, value in moments.items():
            tensors[f"optimizer/{index}/{name}"] = value.contiguous()
    settings = {
        "epoch": training.epoch,
        "seconds": training.seconds,
        "param_groups": optimizer["param_groups"],
        "schedule": training.schedule.state_dict(),
    }
    tensors["settings"] = torch.frombuffer(
        bytearray(json.dumps(settings).encode()), dtype=torch.uint8
    )
    return save(tensors)


def load_training(training: Training, content: bytes) -> None:
    """Load the saved state into a training of the same network and recipe."""
    tensors = load(content)
    settings = json.loads(tensors.pop("settings").numpy().tobytes())
    training.generator.set_state(tensors.pop("generator"))
    network: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part == "network":
            network[name] = value
        else:
            index, _, name = name.partition("/")
            moments.setdefault(int(index), {})[name] = value
    training.network.load_state_dict(network)
    training.optimizer.load_state_dict({"state": moments, "param_groups": settings["param_groups"]})
    training.schedule.load_state_dict(settings["schedule"])
    training.epoch, training.seconds = settings["epoch"], settings["seconds"]
