"""What the paper leaves open about the base learners, chosen by measurement on the valid split.

    python -m benchmarks.recipes cifar10 --data-dir DIR

Trains a few learners of the data set under each alternative, on one core, and prints their mean
accuracy on their own classes, on the others and on all, with the samples trained a second.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Splits, load_splits
from distcel.data.subsets import specialised_indices
from distcel.evaluate.launch import learner_accuracies
from distcel.experiment.learner_sets import LearnerSpec, learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment
from distcel.train.cache import TrainedLearner
from distcel.train.learner import train_learner
from distcel.train.precision import resolved
from distcel.train.selection import TrainingTask


def alternatives(dataset: str) -> Mapping[str, Experiment]:
    """Experiments that differ in one open choice each."""
    quick, paper = load_experiment(dataset, "quick"), load_experiment(dataset, "paper")

    def with_recipe(experiment: Experiment, **changes: object) -> Experiment:
        return replace(experiment, learner_recipe=replace(experiment.learner_recipe, **changes))  # type: ignore[arg-type]

    if dataset == "cifar10":
        return {
            "batch 4, momentum 0.9": paper,
            "batch 4, no momentum": with_recipe(paper, momentum=0.0),
            "batch 32, momentum 0.9": with_recipe(paper, batch_size=32),
            "batch 32, momentum 0.9, lr 0.01": with_recipe(paper, batch_size=32, lr=0.01),
        }
    if dataset == "mnist":
        return {
            f"batch {size}, 3 epochs": with_recipe(paper, batch_size=size, epochs=3)
            for size in (32, 64, 256)
        }
    base = quick if dataset in ("fer2013", "utkface") else paper
    return {
        f"batch {size}, augmentation {augmentation}": with_recipe(
            base, batch_size=size, augmentation=augmentation
        )
        for size, augmentation in (
            *((64, "none"), (64, "flip"), (64, "flip_crop")),
            *((128, "none"), (128, "flip"), (128, "flip_crop")),
        )
    }


def measure(
    experiment: Experiment, splits: Splits, specs: tuple[LearnerSpec, ...]
) -> tuple[float, float, float, float]:
    """Specialised, complementary and overall accuracy on valid, and samples a second."""
    experiment = resolved(experiment)
    plan = NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())
    task = TrainingTask(experiment, plan, splits, seed=0)
    probs, trained, started = [], 0, time.monotonic()
    for spec in specs:
        *_, last = train_learner(spec, task, torch.device("cpu"), predicted=["valid"])
        assert isinstance(last, TrainedLearner)
        probs.append(last.probs_by_split["valid"])
        share = experiment.specialty_share
        n_own = len(specialised_indices(task.train.labels_S, spec, share, 0))
        trained += n_own * experiment.learner_recipe.epochs
    seconds = time.monotonic() - started
    valid = replace(task.valid, probs_SNC=np.stack(probs, axis=1))
    specialised, complementary, overall = learner_accuracies(valid, specs)
    assert specialised is not None, "these are specialists"
    assert complementary is not None, "these are specialists"
    return specialised, complementary, overall, trained / seconds


def main() -> None:
    """Print the table."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("dataset")
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--learners", type=int, default=6, help="evenly spaced among all (6)")
    arguments = flags.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, seed 0, {arguments.learners} learners")
    print("| recipe | specialised | complementary | overall | samples/s |")
    print("| --- | --- | --- | --- | --- |")
    for name, experiment in alternatives(arguments.dataset).items():
        with TemporaryDirectory() as folder:
            splits = load_splits(experiment, arguments.data_dir, Path(folder), seed=0)
            every = learner_specs(splits.class_names)
            chosen = np.linspace(0, len(every) - 1, arguments.learners).round().astype(int)
            own, others, overall, speed = measure(
                experiment, splits, tuple(every[i] for i in chosen)
            )
        cells = (f"{100 * x:.1f}" for x in (own, others, overall))
        print(f"| {name} | {' | '.join(cells)} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
