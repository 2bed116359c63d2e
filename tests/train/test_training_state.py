from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distcel.experiment.types import Recipe
from distcel.train.checkpoint import load_training, save_training
from distcel.train.loop import Training, augment

IMAGES = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES.float().mean((1, 2, 3)) > 127).long()


def training(recipe: Recipe, seed: int) -> Training:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 2))

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        images = augment(IMAGES[batch], recipe.augmentation, generator)
        return cross_entropy(network(images.float()), LABELS[batch])

    return Training(network, loss, torch.arange(40), recipe, seed)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("sgd", 0.1, 5, 16, schedule="step", weight_decay=0.01),
        Recipe("sgd", 0.1, 5, 16, momentum=0.9, augmentation="flip"),
        Recipe("adadelta", 1.0, 5, 16, schedule="step"),
        Recipe("adam", 0.01, 5, 16, schedule="one_cycle", augmentation="flip_crop"),
    ],
    ids=lambda recipe: f"{recipe.optimizer} {recipe.schedule}",
)
@pytest.mark.parametrize("epochs_before", [1, 3])
def test_a_resumed_training_is_bitwise_the_one_without_a_break(
    recipe: Recipe, epochs_before: int
) -> None:
    straight = training(recipe, seed=0)
    losses = [straight.run_epoch() for _ in range(5)]

    stopped = training(recipe, seed=0)
    for _ in range(epochs_before):
        stopped.run_epoch()
    state = save_training(stopped)
    resumed = training(replace(recipe), seed=7)  # other weights, another order: all is replaced
    load_training(resumed, state)
    assert (resumed.epoch, resumed.seconds) == (epochs_before, stopped.seconds)
    assert [resumed.run_epoch() for _ in range(5 - epochs_before)] == losses[epochs_before:]
    assert resumed.seconds > stopped.seconds > 0
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_state_is_a_safetensors_file() -> None:
    run = training(Recipe("adam", 0.01, 5, 16), seed=0)
    run.run_epoch()
    header = save_training(run)[8:]
    assert header.startswith(b"{")
