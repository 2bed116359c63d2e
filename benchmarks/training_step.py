"""An epoch of a trial against the bare selection net's, and against Algorithm 1 as it is written.

    python -m benchmarks.training_step

One thread. `bare` trains the same net on the same batches by cross entropy on its own outputs;
`Algorithm 1` runs all n base learners at every step, where a trial reads their cached predictions.
Random images: only the time matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.measure import in_turns, ratio, table
from distcel.core.ensemble import smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Gradient
from distcel.train.loop import Training
from distcel.train.selection import SelectionTraining
from tests.cached_splits import made_split

# FER2013 at preset quick: 28 of the full networks take minutes a batch on a CPU.
CASES = [("cifar10", "paper", 10, (3, 32, 32)), ("fer2013", "quick", 7, (1, 24, 24))]
N_BATCHES, REPETITIONS = 6, 7
CPU = torch.device("cpu")


def candidates(
    dataset: str, preset: str, n_classes: int, shape: tuple[int, int, int]
) -> dict[str, Callable[[], object]]:
    """An epoch of each, by name."""
    experiment = load_experiment(dataset, preset)
    plan = NetworkPlan(experiment.network, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    names = tuple(str(c) for c in range(n_classes))
    n = len(learner_specs(names))
    recipe = replace(experiment.selector_recipe, epochs=999, augmentation="none")  # nor does bare
    count = N_BATCHES * recipe.batch_size
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    classes = random.integers(0, n_classes, count)
    split = made_split(classes, random.random((count, n, n_classes), dtype=np.float32), pixels)
    images, labels = torch.from_numpy(split.images_SCHW), torch.from_numpy(split.labels_S)
    indices = torch.arange(count)

    def bare() -> Training:
        net = plan.build(n, 0)
        loss = lambda batch, _: cross_entropy(net(images[batch]), labels[batch])  # noqa: E731
        return Training(net, loss, indices, recipe, 0)

    def algorithm_1() -> Training:
        params = replace(experiment.first_trial, gradient="paper")
        net = plan.build(n, 0)
        smart = smart_ensemble(net, params, n, n_classes)
        learners = [plan.build(n_classes, i).eval() for i in range(n)]

        def loss(batch: Tensor, _: torch.Generator) -> Tensor:
            with torch.no_grad():
                outputs = [learner(images[batch]).softmax(-1) for learner in learners]
            return cross_entropy(smart(images[batch], torch.stack(outputs, 1)), labels[batch])

        return Training(net, loss, indices, recipe, 0)

    def trial(gradient: Gradient) -> Training:
        params = replace(experiment.first_trial, gradient=gradient)
        params = replace(params, m=4) if gradient == "conditional" else params
        net: nn.Module = plan.build(n, 0)
        smart = smart_ensemble(net, params, n, n_classes)
        return SelectionTraining(smart, split, split, recipe, 0, CPU).training

    runs = {"bare": bare(), "Algorithm 1": algorithm_1()}
    runs |= {gradient: trial(gradient) for gradient in get_args(Gradient)}
    return {name: run.run_epoch for name, run in runs.items()}


def report() -> str:
    """The table, as Markdown."""
    torch.set_num_threads(1)
    rows = []
    for dataset, preset, n_classes, shape in CASES:
        times = in_turns(candidates(dataset, preset, n_classes, shape), REPETITIONS)
        for gradient in get_args(Gradient):
            rows.append(
                [
                    f"{dataset}, {preset}",
                    gradient,
                    f"{1e3 * times[gradient].median / N_BATCHES:.1f}",
                    ratio(times[gradient], times["bare"]),
                    f"{100 * (1 - times['bare'].median / times[gradient].median):.0f} %",
                    ratio(times["Algorithm 1"], times[gradient]),
                ]
            )
    head = ["data set", "gradient", "ms a batch", "of the bare net's time (at most 1.25)"]
    head += ["layer and vote in it (exact at most 30 %, aim 15 %)"]
    head += ["Algorithm 1 takes times as long (at least 10)"]
    return table(head, rows)


if __name__ == "__main__":
    print(report())
