"""Training base learners on Ray's workers on a CPU against one plain PyTorch loop on one core.

    python -m benchmarks.base_learners

CIFAR-10's 55 learners at preset quick, on random images of its size: only the time matters. The
plain loop is what one would write first: float images, a shuffled index, one network, no Ray. Its
rates of training and of predicting are taken before and after the workers' turn, whose time counts
from their start to the last file on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measure import in_turns, ratio, table
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split, Splits
from distcel.data.subsets import specialised_indices
from distcel.execute.cluster import cluster_pool, connect
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.architecture import Architecture
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES, Experiment
from distcel.train.cache import PredictionCache
from distcel.train.learner import train_learners
from distcel.train.selection import TrainingTask

N_TRAIN, EPOCHS, LOOP_SECONDS = 36_000, 6, 40.0
CLASSES = tuple(str(c) for c in range(10))


def random_splits(n_train: int) -> Splits:
    """Splits in CIFAR-10's shape; valid and test are small."""
    random = np.random.default_rng(0)
    by_name = {}
    for name, count in zip(SPLIT_NAMES, (n_train, 1000, 1000), strict=True):
        ids = pa.array([f"{name}/{i}" for i in range(count)])
        images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        no_probs = np.empty((count, 0, len(CLASSES)), np.float32)
        by_name[name] = Split(ids, np.arange(count) % len(CLASSES), images, no_probs)
    return Splits(CLASSES, by_name, "random", 0)


class PlainLoop:
    """One network on one core: how many samples it trains on and predicts a second."""

    def __init__(self, experiment: Experiment, plan: NetworkPlan, splits: Splits) -> None:
        recipe, train = experiment.learner_recipe, splits["train"]
        self.images = torch.from_numpy(train.images_SCHW).float().div(255).sub(0.5).div(0.25)
        self.labels, self.batch_size = torch.from_numpy(train.labels_S), recipe.batch_size
        network = plan.build(len(CLASSES), 0).body
        self.network = network.to(memory_format=torch.contiguous_format)  # as PyTorch has it
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=recipe.lr, momentum=recipe.momentum
        )

    def train(self, batch_B: Tensor) -> None:
        self.optimizer.zero_grad()
        cross_entropy(self.network(self.images[batch_B]), self.labels[batch_B]).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def predict(self, batch_B: Tensor) -> None:
        self.network(self.images[batch_B]).softmax(-1)

    def rates(self) -> tuple[float, float]:
        torch.set_num_threads(1)
        return (
            self._rate(self.train, self.batch_size, LOOP_SECONDS),
            self._rate(self.predict, 256, LOOP_SECONDS / 4),
        )

    def _rate(self, step: Callable[[Tensor], None], batch_size: int, limit: float) -> float:
        done, started = 0, time.perf_counter()
        while True:
            for batch_B in torch.randperm(len(self.labels)).split(batch_size):
                step(batch_B)
                done += len(batch_B)
                seconds = time.perf_counter() - started
                if seconds > limit:
                    return done / seconds


def on_workers(experiment: Experiment, plan: NetworkPlan, splits: Splits) -> tuple[float, int]:
    """Seconds for all learners, and on how many workers."""
    specs = learner_specs(CLASSES)
    with TemporaryDirectory() as folder, connect(None):
        executor, cache = RayExecutor(lambda: cluster_pool(1.0)), PredictionCache(Path(folder))
        task = TrainingTask(experiment, plan, splits, seed=0)
        started = time.perf_counter()
        train_learners(task, specs, [f"{i}" for i in range(len(specs))], cache, executor)
        return time.perf_counter() - started, executor.n_workers


def epoch(
    architecture: Architecture, shape: tuple[int, int, int], batch_size: int, variant: str
) -> Callable[[], None]:
    """One epoch of a plain loop over 3,000 images, in one of the variants."""
    plan = NetworkPlan(architecture, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    layout = torch.channels_last if variant == "channels last" else torch.contiguous_format
    network = plan.build(len(CLASSES), 0).to(memory_format=layout)
    images = torch.randint(0, 256, (3000, *shape), dtype=torch.uint8)
    labels = torch.randint(0, len(CLASSES), (3000,))
    optimizer = torch.optim.Adam(
        network.parameters(), fused=variant == "fused", foreach=variant == "foreach"
    )

    def run() -> None:
        for batch_B in torch.randperm(3000).split(batch_size):
            optimizer.zero_grad()
            cross_entropy(network(images[batch_B]), labels[batch_B]).backward()
            optimizer.step()

    return run


def variants_report() -> str:
    """What else one core can be asked for, against the plain loop."""
    torch.set_num_threads(1)
    names = ("plain", "channels last", "fused", "foreach")
    rows = []
    lenet, resnet9 = Architecture("lenet", (6, 16)), Architecture("resnet9", (8, 16, 32, 64))
    for architecture, shape, batch_size in (
        (lenet, (3, 32, 32), 4),
        (lenet, (3, 32, 32), 32),
        (lenet, (3, 32, 32), 128),
        (resnet9, (1, 24, 24), 128),
    ):
        runs = {name: epoch(architecture, shape, batch_size, name) for name in names}
        times = in_turns(runs, 5)
        faster = [ratio(times["plain"], times[name]) for name in names[1:]]
        plain = f"{3000 / times['plain'].median:.0f}"
        rows.append([f"{architecture.family} {architecture.channels}", batch_size, plain, *faster])
    head = ["network", "batch", "plain loop, samples/s", "channels last (used)"]
    return table([*head, "fused optimiser", "foreach optimiser"], rows)


def report() -> str:
    """The tables, as Markdown."""
    quick = load_experiment("cifar10", "quick")
    experiment = replace(quick, learner_recipe=replace(quick.learner_recipe, epochs=EPOCHS))
    splits = random_splits(N_TRAIN)
    plan = NetworkPlan(quick.network, (3, 32, 32), (0.5,) * 3, (0.25,) * 3)
    labels, share, specs = splits["train"].labels_S, quick.specialty_share, learner_specs(CLASSES)
    trained = sum(len(specialised_indices(labels, spec, share, 0)) for spec in specs) * EPOCHS
    predicted = sum(len(splits[name].labels_S) for name in SPLIT_NAMES) * len(specs)
    loop = PlainLoop(experiment, plan, splits)
    before = loop.rates()
    seconds, n_workers = on_workers(experiment, plan, splits)
    after = loop.rates()
    alone = [trained / train + predicted / predict for train, predict in (before, after)]
    rows = [
        [
            f"{trained / 1e6:.2f} million samples trained on, {predicted / 1e6:.2f} predicted",
            f"{alone[0]:.0f}, {alone[1]:.0f}",
            f"{seconds:.0f}",
            f"{sum(alone) / 2 / seconds:.2f} ({min(alone) / seconds:.2f} to "
            f"{max(alone) / seconds:.2f}), target 1.9",
        ]
    ]
    head = ["work of 55 learners", "one plain loop, s (by its rates before and after)"]
    whole = table([*head, f"{n_workers} workers, s", "times faster"], rows)
    return f"{whole}\n\nVariants, times as fast as the plain loop:\n\n{variants_report()}"


if __name__ == "__main__":
    print(report())
