from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from distcel.experiment.errors import DivergedError
from distcel.experiment.types import Recipe
from distcel.train.loop import Training, accuracy, augment, predict

RECIPE = Recipe("sgd", lr=0.5, epochs=4, batch_size=16)


def separable(n_samples: int = 70) -> tuple[Tensor, Tensor]:
    points = torch.randn(n_samples, 2, generator=torch.Generator().manual_seed(0))
    return points, (points[:, 0] > 0).long()


def training(recipe: Recipe, seed: int = 0) -> tuple[Training, nn.Linear, list[int]]:
    points, labels = separable()
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.zero_()
    sizes: list[int] = []

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        sizes.append(len(batch))
        return cross_entropy(network(points[batch]), labels[batch])

    return Training(network, loss, torch.arange(len(points)), recipe, seed), network, sizes


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, momentum=0.9, lr=0.1),
        replace(RECIPE, optimizer="adadelta", lr=1.0, epochs=40),
        replace(RECIPE, optimizer="adam", lr=0.1, schedule="one_cycle"),
    ],
    ids=["sgd", "momentum", "adadelta", "adam one_cycle"],
)
def test_every_optimizer_learns_a_separable_problem(recipe: Recipe) -> None:
    run, network, _ = training(recipe)
    losses = [run.run_epoch() for _ in range(recipe.epochs)]
    points, labels = separable()
    assert losses[-1] < losses[0]
    assert accuracy(predict(network, points), labels) > 0.8  # half without any training


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            replace(RECIPE, momentum=0.9, weight_decay=0.01),
            {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01},
        ),
        (replace(RECIPE, optimizer="adam", weight_decay=0.02), {"lr": 0.5, "weight_decay": 0.02}),
        (
            replace(RECIPE, optimizer="adadelta", weight_decay=0.03),
            {"lr": 0.5, "weight_decay": 0.03},
        ),
    ],
    ids=lambda value: getattr(value, "optimizer", ""),
)
def test_the_optimizer_has_the_recipes_settings(recipe: Recipe, expected: dict[str, float]) -> None:
    run, _, _ = training(recipe)
    (group,) = run.optimizer.param_groups
    assert {name: group[name] for name in expected} == expected
    assert type(run.optimizer).__name__.lower() == recipe.optimizer


def test_batch_norm_trains_in_every_epoch_though_valid_is_measured_between() -> None:
    points, labels = separable()
    norm = nn.BatchNorm1d(2)
    network = nn.Sequential(norm, nn.Linear(2, 2))

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        return cross_entropy(network(points[batch]), labels[batch])

    run = Training(network, loss, torch.arange(len(points)), RECIPE, seed=0)
    for _ in range(2):
        run.run_epoch()
        predict(network, points)
    assert norm.num_batches_tracked == 2 * run.n_batches


def test_an_epoch_sees_every_sample_once_in_batches_of_nearly_one_size() -> None:
    seen: list[Tensor] = []
    network = nn.Linear(1, 1)

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        seen.append(batch)
        return 0 * network.weight.sum()

    run = Training(network, loss, torch.arange(100, 133), RECIPE, seed=0)
    run.run_epoch()
    assert sorted(torch.cat(seen).tolist()) == list(range(100, 133))
    assert [len(batch) for batch in seen] == [11, 11, 11]  # 16, 16, 1 would break batch norm
    first = torch.cat(seen).tolist()
    run.run_epoch()
    assert torch.cat(seen[3:]).tolist() != first


def test_the_mean_loss_weights_every_sample_alike() -> None:
    network = nn.Linear(1, 1)
    values = torch.arange(7.0)

    def loss(batch: Tensor, _: torch.Generator) -> Tensor:
        return values[batch].mean() + 0 * network.weight.sum()

    run = Training(network, loss, torch.arange(7), replace(RECIPE, batch_size=5), seed=0)
    assert run.run_epoch() == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 0.5, 0.5]), ("step", [0.5, 0.45, 0.405])],
)
def test_schedules_by_the_epoch(schedule: str, expected: list[float]) -> None:
    run, _, _ = training(replace(RECIPE, schedule=schedule))  # type: ignore[arg-type]
    found = []
    for _ in expected:
        found.append(run.optimizer.param_groups[0]["lr"])
        run.run_epoch()
    assert found == pytest.approx(expected)


def test_one_cycle_peaks_at_lr_and_ends_near_zero() -> None:
    run, _, _ = training(replace(RECIPE, schedule="one_cycle"))
    rates = []
    original = run.batch_loss

    def noting_the_rate(batch: Tensor, generator: torch.Generator) -> Tensor:
        rates.append(run.optimizer.param_groups[0]["lr"])
        return original(batch, generator)

    run.batch_loss = noting_the_rate
    for _ in range(RECIPE.epochs):
        run.run_epoch()
    assert len(rates) == RECIPE.epochs * 5
    assert max(rates) == pytest.approx(0.5, rel=0.05)
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[-1] < 0.01


def test_the_same_seed_gives_bitwise_the_same_weights() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(3)
        run, network, _ = training(RECIPE, seed)
        run.run_epoch()
        weights.append(network.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training(value: float) -> None:
    network = nn.Linear(1, 1)
    run = Training(
        network, lambda *_: network(torch.zeros(1, 1)).sum() * value, torch.arange(4), RECIPE, 0
    )
    with pytest.raises(DivergedError, match=r"training loss became (nan|inf).*smaller lr"):
        run.run_epoch()


def test_a_weight_that_is_not_finite_ends_the_training_though_the_loss_is_finite() -> None:
    network = nn.Linear(1, 1)
    nn.init.constant_(network.bias, float("inf"))
    run = Training(network, lambda *_: network.weight.sum(), torch.arange(4), RECIPE, 0)
    with pytest.raises(DivergedError, match="a weight became NaN or infinite"):
        run.run_epoch()


def test_augmentation_mirrors_and_shifts_within_an_eighth() -> None:
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(200, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(augment(images, "none", generator), images)

    flipped = augment(images, "flip", generator)
    mirrored = [torch.equal(image, images[0].flip(-1)) for image in flipped]
    same = [torch.equal(image, images[0]) for image in flipped]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 60 < sum(mirrored) < 140

    padded = nn.functional.pad(images[0], (1, 1, 1, 1))
    windows = [padded[:, r : r + 8, c : c + 8] for r in range(3) for c in range(3)]
    cropped = augment(images, "crop", generator)
    found = [[torch.equal(image, window) for window in windows].index(True) for image in cropped]
    assert set(found) == set(range(9))
    assert augment(images, "flip_crop", generator).shape == images.shape
