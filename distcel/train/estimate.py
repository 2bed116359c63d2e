"""Estimates what a launch would train and for how long, from measured training steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from distcel.core.ensemble import smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split
from distcel.data.subsets import held_out_parts, training_indices
from distcel.execute.process import worker_settings
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.types import Experiment, Gradient, SelectionParams, SelectorSplit, SplitName
from distcel.train.loop import Training, predict
from distcel.train.precision import describe_precision, resolved
from distcel.train.selection import SelectionTraining

_MEASURED_SECONDS = 0.25
_MIDDLE_M = 32  # the middle of 1 to 1,000 on a logarithmic scale


@dataclass(frozen=True)
class SampleCounts:
    """The numbers of samples that networks are trained on in one epoch.

    Attributes:
        base_learners: samples of all learners that vote, in all.
        n_folds: number of folds; every learner has a copy for each.
        copies: samples of all copies, in all.
        selection_net: samples of the selection net of one trial.
    """

    base_learners: int
    n_folds: int
    copies: int
    selection_net: int


@dataclass(frozen=True)
class Estimate:
    """What a launch trains, with the seconds a sample that were measured for it on this machine.

    Attributes:
        experiment: the experiment, its precision resolved.
        n_classes: number of classes.
        n_samples: number of samples by split.
        n_learners: number of base learners.
        num_samples: number of trials.
        counts: the samples of an epoch.
        gradients: the gradients that are searched.
        m: the number of noise samples that was measured.
        learner: seconds a sample of a base learner's training.
        predicted: seconds a sample of its prediction.
        selector: seconds a sample of a selection net's training, the mean over the gradients.
        device: where it was measured.
    """

    experiment: Experiment
    n_classes: int
    n_samples: Mapping[SplitName, int]
    n_learners: int
    num_samples: int
    counts: SampleCounts
    gradients: Sequence[str]
    m: int
    learner: float
    predicted: float
    selector: float
    device: str

    @property
    def base_minutes(self) -> float:
        """Minutes of one worker for the base learners."""
        n_predicted = sum(self.n_samples.values()) * self.n_learners
        return self._learner_minutes(self.counts.base_learners, n_predicted)

    @property
    def copies_minutes(self) -> float:
        """Minutes of one worker for the copies of `crossfit`."""
        n_predicted = self.counts.n_folds * self.n_learners * self.n_samples["train"]
        return self._learner_minutes(self.counts.copies, n_predicted)

    @property
    def search_minutes(self) -> float:
        """Minutes of one worker for the search, without early stopping."""
        epochs = self.num_samples * self.experiment.selector_recipe.epochs
        return epochs * self.counts.selection_net * self.selector / 60

    @property
    def minutes(self) -> float:
        """Minutes of one worker in all."""
        return self.base_minutes + self.copies_minutes + self.search_minutes

    def _learner_minutes(self, n_trained: int, n_predicted: int) -> float:
        epochs = self.experiment.learner_recipe.epochs
        return (n_trained * epochs * self.learner + n_predicted * self.predicted) / 60

    def describe(self, n_workers: int) -> str:
        """The stages with their sizes and estimated minutes, one line each."""
        experiment, counts = self.experiment, self.counts
        epochs, of_trial = experiment.learner_recipe.epochs, experiment.selector_recipe.epochs
        sizes = ", ".join(f"{count} {name}" for name, count in self.n_samples.items())
        lines = [
            describe_precision(experiment),
            f"data: {experiment.dataset}, {self.n_classes} classes, {sizes}, before "
            "duplicates are left out",
            f"base learners: {self.n_learners} of {experiment.network.name}, "
            f"{counts.base_learners} samples an epoch in all, {epochs} epochs, "
            f"{1e3 * self.learner:.3f} ms a sample: {self.base_minutes / n_workers:.1f} min",
        ]
        if counts.n_folds:
            lines.append(
                f"copies of them, each without a fold: {counts.n_folds * self.n_learners}, "
                f"{counts.copies} samples an epoch in all: "
                f"{self.copies_minutes / n_workers:.1f} min"
            )
        workers = "1 worker" if n_workers == 1 else f"{n_workers} workers"
        lines += [
            f"search: {self.num_samples} trials of at most {of_trial} epochs on "
            f"{counts.selection_net} samples, {1e3 * self.selector:.3f} ms a sample (mean of "
            f"{', '.join(self.gradients)}; m = {self.m}): "
            f"{self.search_minutes / n_workers:.1f} min without early stopping",
            f"in all: {self.minutes / n_workers:.1f} min on {workers}, {self.device}",
        ]
        return "\n".join(lines)


def estimate(
    experiment: Experiment,
    n_classes: int,
    n_samples: Mapping[SplitName, int],
    image_shape: tuple[int, ...],
    n_learners: int,
    point: SelectionParams,
    num_samples: int,
    counts: SampleCounts,
    fixed: Collection[str],
) -> Estimate:
    """Measure steps of trainings, and estimate from them how long a launch takes.

    A step of a base learner and one of the selection net are measured on this machine, one process
    with one thread, on random images; the selection net's is the mean over the gradients that are
    searched, at the k and epsilon of `point` and, where it is searched, an m from the middle of its
    range.

    Args:
        experiment: the experiment.
        n_classes: number of classes.
        n_samples: number of samples by split.
        image_shape: channels, height and width.
        n_learners: number of base learners.
        point: the hyperparameters of the first trial.
        num_samples: number of trials.
        counts: the samples of an epoch, by `count_samples`.
        fixed: the hyperparameters that are not searched.
    """
    experiment = resolved(experiment)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    n_channels = image_shape[0]
    mean, std = (0.5,) * n_channels, (0.25,) * n_channels
    plan = NetworkPlan(experiment.network, image_shape, mean, std)
    searched = experiment.space.keys() - fixed
    gradients = get_args(Gradient) if "gradient" in searched else [point.gradient]
    m = _MIDDLE_M if "m" in searched else point.m
    points = [replace(point, gradient=gradient, m=m) for gradient in gradients]
    with worker_settings():
        seconds = _seconds_per_sample(experiment, plan, points, n_learners, device)
    return Estimate(
        experiment,
        n_classes,
        n_samples,
        n_learners,
        num_samples,
        counts,
        gradients,
        m,
        *seconds,
        device=device.type,
    )


def count_samples(
    labels_S: NDArray[np.int64],
    specs: Sequence[LearnerSpec],
    experiment: Experiment,
    selector_split: SelectorSplit,
    seed: int,
) -> SampleCounts:
    """Count the samples that are trained on, given the labels of the train split, shape (S,).

    Raises:
        InvalidInputError: a class has too few samples for each fold to have one.
    """

    def per_epoch(labels_S: NDArray[np.int64]) -> int:
        drawn = (training_indices(labels_S, spec, experiment, seed, 0) for spec in specs)
        return sum(map(len, drawn))

    parts = held_out_parts(labels_S, selector_split, seed, experiment.holdout_share)
    if selector_split == "holdout":
        (held_out_S,) = parts
        return SampleCounts(per_epoch(labels_S[~held_out_S]), 0, 0, int(held_out_S.sum()))
    copies = sum(per_epoch(labels_S[~part_S]) for part_S in parts)
    return SampleCounts(per_epoch(labels_S), len(parts), copies, len(labels_S))


def _seconds_per_sample(
    experiment: Experiment,
    plan: NetworkPlan,
    points: Sequence[SelectionParams],
    n_learners: int,
    device: torch.device,
) -> tuple[float, float, float]:
    """Measure seconds a sample: a learner's training and prediction, a selection net's training."""
    n_classes, batch = 2, experiment.learner_recipe.batch_size
    images = torch.randint(0, 256, (batch, *plan.image_shape), dtype=torch.uint8, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    network = plan.build(n_classes, 0, experiment.learner_recipe.in_bfloat16).to(device)

    def loss(chosen: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(network(images[chosen]), labels[chosen])

    indices = torch.arange(batch, device=device)
    learner = Training(network, loss, indices, replace(experiment.learner_recipe, epochs=999), 0)

    batch_size = experiment.selector_recipe.batch_size
    shape = (batch_size, *plan.image_shape)
    random = np.random.default_rng(0)
    split = Split(
        pa.nulls(batch_size, pa.string()),
        np.zeros(batch_size, np.int64),
        random.integers(0, 256, shape, dtype=np.uint8),
        random.random((batch_size, n_learners, n_classes), dtype=np.float32),
    )
    recipe = replace(experiment.selector_recipe, epochs=999)
    seconds = []
    for params in points:
        net = plan.build(n_learners, 0, recipe.in_bfloat16).to(device)
        ensemble = smart_ensemble(net, params, n_learners, n_classes).to(device)
        selector = SelectionTraining(ensemble, split, split, recipe, 0, device)
        seconds.append(_measure(selector.training.run_epoch, device) / batch_size)
    n_at_once = 256
    many = torch.zeros(n_at_once, *plan.image_shape, dtype=torch.uint8, device=device)
    return (
        _measure(learner.run_epoch, device) / batch,
        _measure(lambda: predict(network, many), device) / n_at_once,
        float(np.mean(seconds)),
    )


def _measure(step: Callable[[], object], device: torch.device) -> float:
    """The median seconds of a call after the first one, which prepares the kernels."""

    def timed() -> float:
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    timed()
    seconds: list[float] = []
    while len(seconds) < 900 and sum(seconds) < _MEASURED_SECONDS:
        seconds.append(timed())
    return float(np.median(seconds))
