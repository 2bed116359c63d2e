"""A training between two epochs, as bytes: safetensors and JSON, nothing to unpickle."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load, save
from torch import Tensor

from distcel.train.loop import Training


def save_training(training: Training) -> bytes:
    """Everything that `load_training` needs to go on as if there had been no break."""
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
    """Put a training of the same network and recipe where the saved one was."""
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
