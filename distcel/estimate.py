"""What a launch would do and about how long it would take, from measured training steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import numpy as np
import torch

from distcel.datasets import specialised_indices
from distcel.ensemble import SelectionTraining
from distcel.networks import NetworkPlan
from distcel.predictions import CachedSplit
from distcel.sources import Pool
from distcel.training import Training
from distcel.types import Experiment, Gradient, SelectionParams, SplitName, learner_specs

_MEASURED_SECONDS = 0.25
_MIDDLE_M = 32  # of 1 to 1,000 on a logarithmic scale


def describe(
    experiment: Experiment,
    class_names: tuple[str, ...],
    pools: Mapping[SplitName, Pool],
    point: SelectionParams,
    num_samples: int,
    n_workers: int,
) -> str:
    """The stages with their sizes and estimated minutes, one line each.

    A step of a base learner and one of the selection net are measured on this machine, one process
    with one thread, on random images; the selection net's is the mean over the three gradients, at
    the k and epsilon of `point` and an m from the middle of its range.
    """
    labels = pools["train"].labels
    specs = learner_specs(class_names)
    share, recipe = experiment.specialty_share, experiment.learner_recipe
    per_epoch = sum(len(specialised_indices(labels, spec, share, 0)) for spec in specs)
    image = pools["train"].read(np.zeros(1, np.int64), experiment.image_size)
    plan = NetworkPlan(
        experiment.architecture, image.shape[1:], (0.5,) * image.shape[1], (0.25,) * image.shape[1]
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner, selector = _seconds_per_sample(experiment, plan, point, len(specs), device)
    predicted = sum(len(pool.labels) for pool in pools.values()) * len(specs)
    # Predicting is a forward pass: about a third of a training step.
    base = (per_epoch * recipe.epochs + predicted / 3) * learner / n_workers
    epochs = experiment.selector_recipe.epochs
    trials = num_samples * epochs * len(labels) * selector / n_workers
    sizes = ", ".join(f"{len(pool.labels)} {name}" for name, pool in pools.items())
    return "\n".join(
        [
            f"data: {experiment.dataset}, {len(class_names)} classes, {sizes}",
            f"base learners: {len(specs)} of {experiment.architecture.family}, {per_epoch} samples "
            f"an epoch in all, {recipe.epochs} epochs, {1e3 * learner:.3f} ms a sample: "
            f"{base / 60:.1f} min",
            f"search: {num_samples} trials of at most {epochs} epochs, {1e3 * selector:.3f} ms a "
            f"sample: {trials / 60:.1f} min without early stopping",
            f"in all: {(base + trials) / 60:.1f} min on {n_workers} workers, {device.type}",
        ]
    )


def _seconds_per_sample(
    experiment: Experiment,
    plan: NetworkPlan,
    point: SelectionParams,
    n_learners: int,
    device: torch.device,
) -> tuple[float, float]:
    """Measured seconds a sample of a base learner's and of a selection net's training."""
    torch.set_num_threads(1)
    n_classes, batch = 2, experiment.learner_recipe.batch_size
    images = torch.randint(0, 256, (batch, *plan.image_shape), dtype=torch.uint8, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    network = plan.build(n_classes, 0).to(device)

    def loss(chosen: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen])

    indices = torch.arange(batch, device=device)
    learner = Training(network, loss, indices, replace(experiment.learner_recipe, epochs=999), 0)

    batch_size = experiment.selector_recipe.batch_size
    shape = (batch_size, *plan.image_shape)
    random = np.random.default_rng(0)
    split = CachedSplit(
        random.integers(0, 256, shape, dtype=np.uint8),
        np.zeros(batch_size, np.int64),
        random.random((batch_size, n_learners, n_classes), dtype=np.float32),
    )
    recipe = replace(experiment.selector_recipe, epochs=999)
    seconds = []
    for gradient in get_args(Gradient):
        net = plan.build(n_learners, 0).to(device)
        params = replace(point, gradient=gradient, m=_MIDDLE_M)
        selector = SelectionTraining(net, split, split, params, recipe, 0, device)
        seconds.append(_measure(selector.training.run_epoch, device) / batch_size)
    return _measure(learner.run_epoch, device) / batch, float(np.mean(seconds))


def _measure(step: Callable[[], object], device: torch.device) -> float:
    """Median seconds of a call, after one that is not counted."""
    seconds: list[float] = []
    while len(seconds) < 900 and sum(seconds) < _MEASURED_SECONDS:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[1:] or seconds))
