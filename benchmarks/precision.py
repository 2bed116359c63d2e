"""Training in bfloat16 against float32: samples a second, and what it does to the valid accuracy.

    python -m benchmarks.precision [--data-dir DIR]

One thread. Speed is of training steps on random images, in turns. DIR holds FER2013 and CIFAR-10;
without it, speed alone is measured. Accuracy is of preset quick on fewer training samples: a base
learner for each pair of neighbouring classes, as many as there are classes, and a smart ensemble of
them at k = 3 by `exact`; and a single network of a quarter of FER2013's published width. The seeds
share their splits, so that they differ by the training alone. It takes about 15 minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.measure import in_turns, ratio, table
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split, Splits, load_splits
from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, Precision, Recipe, SplitName
from distcel.rules.single_network import SingleNetwork
from distcel.storage.provenance import bfloat16_hardware
from distcel.train.cache import TrainedLearner
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import train_learner
from distcel.train.loop import Training, accuracy
from distcel.train.precision import choose_precision
from distcel.train.selection import TrainingTask

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
SEEDS, K = (0, 1, 2), 3
MAX_SAMPLES = {"fer2013": 6000, "cifar10": 12_000}
N_CLASSES, REPETITIONS = 7, 11
CPU = torch.device("cpu")
QUARTER = Architecture("resnet9", (16, 32, 64, 128))
Shape = tuple[int, int, int]


def mobilenet(n_outputs: int, image_shape: Shape) -> nn.Module:
    """Depthwise convolutions, as many networks of users have them."""
    from torchvision.models import mobilenet_v2

    network: nn.Module = mobilenet_v2(num_classes=n_outputs)
    return network


# Network, image shape, batch size, and batches a turn: of some tenths of a second or more.
CASES: list[tuple[Architecture | OwnArchitecture, Shape, int, int]] = [
    (Architecture("resnet9", (64, 128, 256, 512)), (1, 48, 48), 64, 1),
    (Architecture("resnet9", (32, 64, 128, 256)), (1, 48, 48), 64, 1),
    (QUARTER, (1, 48, 48), 64, 3),
    (Architecture("resnet9", (8, 16, 32, 64)), (1, 48, 48), 64, 6),
    (Architecture("resnet9", (8, 16, 32, 64)), (1, 24, 24), 128, 10),
    (Architecture("resnet9", (4, 8, 16, 32)), (1, 48, 48), 64, 8),
    (Architecture("resnet9", (2, 4, 8, 16)), (1, 48, 48), 64, 10),
    (Architecture("resnet18"), (3, 96, 96), 32, 1),
    (Architecture("lenet", (6, 16)), (3, 32, 32), 32, 50),
    (Architecture("lenet", (10, 20)), (1, 28, 28), 64, 40),
    (Architecture("lenet", (32, 64)), (3, 32, 32), 64, 15),
    (OwnArchitecture(mobilenet, "1"), (3, 96, 96), 32, 1),
]


def epoch(
    architecture: Architecture | OwnArchitecture,
    shape: Shape,
    batch_size: int,
    count: int,
    precision: str,
) -> Callable[[], object]:
    """An epoch of so many random images."""
    plan = NetworkPlan(architecture, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    network = plan.build(N_CLASSES, 0, precision == "bfloat16")
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    labels = torch.randint(0, N_CLASSES, (count,))

    def loss(batch_B: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return cross_entropy(network(images[batch_B]), labels[batch_B])

    recipe = Recipe("adam", 0.001, 999, batch_size)
    return Training(network, loss, torch.arange(count), recipe, 0).run_epoch


def speed_report() -> str:
    """Samples a second by network, and what `auto` chooses on this machine."""
    rows = []
    for architecture, shape, batch_size, n_batches in CASES:
        count = n_batches * batch_size
        times = in_turns(
            {str(name): epoch(architecture, shape, batch_size, count, name) for name in PRECISIONS},
            REPETITIONS,
        )
        rates = {name: count / time.median for name, time in times.items()}
        rows.append(
            [
                f"{architecture.name} {getattr(architecture, 'channels', '') or ''}".strip(),
                "x".join(map(str, shape)),
                batch_size,
                *(f"{rates[name]:.0f}" for name in PRECISIONS),
                ratio(times["float32"], times["bfloat16"]),
                choose_precision(architecture, bfloat16_hardware()),
            ]
        )
    head = ["network", "image", "batch", "float32, samples/s", "bfloat16, samples/s"]
    return table([*head, "times as fast", "auto"], rows)


def plan_of(experiment: Experiment, splits: Splits) -> NetworkPlan:
    return NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())


def ensemble_accuracies(experiment: Experiment, splits: Splits, seed: int) -> dict[str, float]:
    """The base learners' mean valid accuracy, and their smart ensemble's."""
    task = TrainingTask(experiment, plan_of(experiment, splits), splits, seed)
    n_classes = len(splits.class_names)
    pairs = {tuple(sorted((i, (i + 1) % n_classes))) for i in range(n_classes)}
    specs = [spec for spec in learner_specs(splits.class_names) if spec.classes in pairs]
    found = []
    for spec in specs:
        *_, trained = train_learner(spec, task, CPU, predicted=["train", "valid"])
        assert isinstance(trained, TrainedLearner)
        found.append(trained.probs_by_split)
    by_name: dict[SplitName, Split] = {
        name: replace(splits[name], probs_SNC=np.stack([probs[name] for probs in found], 1))
        for name in ("train", "valid")
    }
    cached = replace(task, splits=replace(splits, by_name=by_name))
    labels_S = torch.tensor(cached.valid.labels_S)
    outputs_NSC = torch.tensor(cached.valid.probs_SNC).unbind(1)
    params = replace(experiment.first_trial, k=K, gradient="exact")
    network = cached.begin(params, CPU).run()
    return {
        f"{len(specs)} base learners, mean": statistics.mean(
            accuracy(outputs_SC, labels_S) for outputs_SC in outputs_NSC
        ),
        f"smart ensemble, k = {K}": network.valid_accuracy,
    }


def single_accuracy(experiment: Experiment, splits: Splits, seed: int) -> dict[str, float]:
    """A single network's valid accuracy after its last epoch."""
    no_probs = np.empty((0, 0, len(splits.class_names)), np.float32)
    by_name = {name: replace(split, probs_SNC=no_probs) for name, split in splits.by_name.items()}
    plan = plan_of(experiment, splits)
    task = TrainingTask(experiment, plan, replace(splits, by_name=by_name), seed)
    recipe = experiment.selector_recipe
    *_, trained = SingleNetwork(recipe.epochs, recipe.lr).train(task, CPU, None)
    assert isinstance(trained, TrainedNetwork)
    return {"single network": trained.epochs[-1].valid_accuracy}


def in_both(
    experiment: Experiment,
    data_dir: Path,
    measure: Callable[[Experiment, Splits, int], Mapping[str, float]],
) -> list[list[Any]]:
    """A row for each thing measured: means over the seeds, their difference and deviation."""
    max_samples = MAX_SAMPLES[experiment.dataset]
    experiment = replace(experiment, max_samples=max_samples)
    with TemporaryDirectory() as folder:
        splits = load_splits(experiment, data_dir, Path(folder), seed=0)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        for precision in PRECISIONS:
            learner, selector = (
                replace(recipe, precision=precision)
                for recipe in (experiment.learner_recipe, experiment.selector_recipe)
            )
            chosen = replace(experiment, learner_recipe=learner, selector_recipe=selector)
            for what, value in measure(chosen, splits, seed).items():
                found.setdefault(what, {}).setdefault(precision, []).append(100 * value)
    assert isinstance(experiment.architecture, Architecture)
    network = f"{experiment.architecture.family} {experiment.architecture.channels}"
    name = f"{experiment.dataset}, {max_samples:,} samples, {network}"
    rows = []
    for what, values in found.items():
        means = [statistics.mean(values[precision]) for precision in PRECISIONS]
        deviations = [f"{statistics.stdev(values[precision]):.2f}" for precision in PRECISIONS]
        cells = [f"{mean:.2f} ± {sd}" for mean, sd in zip(means, deviations, strict=True)]
        pairs = zip(*(values[precision] for precision in PRECISIONS), strict=True)
        each = ", ".join(f"{b - a:+.2f}" for a, b in pairs)
        rows.append([name, what, *cells, f"{means[1] - means[0]:+.2f}", each])
    return rows


def accuracy_report(data_dir: Path) -> str:
    """Valid accuracy in both precisions, over three seeds."""
    fer2013, cifar10 = (load_experiment(name, "quick") for name in ("fer2013", "cifar10"))
    quarter = replace(fer2013, architecture=QUARTER)
    rows = in_both(quarter, data_dir, single_accuracy)
    rows += in_both(fer2013, data_dir, ensemble_accuracies)
    rows += in_both(cifar10, data_dir, ensemble_accuracies)
    head = ["data set, network", "valid accuracy, %", "float32", "bfloat16"]
    return table([*head, "difference of the means", "of each seed"], rows)


def report(data_dir: Path | None) -> str:
    """The tables, as Markdown."""
    torch.set_num_threads(1)
    hardware = bfloat16_hardware()
    if hardware is None:
        return "no AMX and no AVX512-BF16: skipped"
    parts = [f"This machine computes in bfloat16 by {hardware}.", speed_report()]
    if data_dir is not None:
        about = f"Accuracy, mean and standard deviation over seeds {SEEDS}:"
        parts += [about, accuracy_report(data_dir)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path)
    print(report(flags.parse_args().data_dir))
