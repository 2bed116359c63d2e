"""What the paper leaves open about the samples of the base learners, by measurement on valid.

    python -m benchmarks.learner_samples fer2013 --data-dir DIR

The paper trains every base learner for the same number of epochs, on samples of which a share is of
its own classes and the rest is "uniformly distributed over all the other classes". Three readings,
preset quick, all learners, one core: equal epochs with the others drawn as they come (distcel's),
equal steps in place of equal epochs, and equal counts of each other class. Accuracy on valid, also
of the average of all, of the prior-corrected pool, and of e2e-CEL's net for every k at the preset's
first point. Nothing is read of test.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from benchmarks.measure import table
from distcel.core.networks import NetworkPlan
from distcel.data.formats import Indices
from distcel.data.splits import Split, load_splits
from distcel.data.subsets import specialised_indices
from distcel.evaluate.launch import learner_accuracies
from distcel.experiment.learner_sets import LearnerSpec, learner_specs
from distcel.experiment.loading import load_experiment
from distcel.train.loop import Training, augment, predict, to_tensor
from distcel.train.precision import resolved
from distcel.train.selection import TrainingTask

# The samples of a learner, given the labels of train, the learner, its specialty share and a seed.
Draw = Callable[[NDArray[np.int64], LearnerSpec, float, int], Indices]


def equal_counts(
    labels_S: NDArray[np.int64], spec: LearnerSpec, share: float, seed: int
) -> Indices:
    """As many samples as `specialised_indices`, with equally many of each other class.

    A class with fewer gives all, and the classes with more make up for it.
    """
    drawn = specialised_indices(labels_S, spec, share, seed)
    own = drawn[np.isin(labels_S[drawn], spec.classes)]
    generator, left = np.random.default_rng(seed), len(drawn) - len(own)
    classes = [c for c in np.unique(labels_S) if c not in spec.classes]
    classes.sort(key=lambda c: int((labels_S == c).sum()))  # rare ones first
    parts = [own]
    for position, label in enumerate(classes):
        rows = np.flatnonzero(labels_S == label)
        count = min(len(rows), round(left / (len(classes) - position)))
        parts.append(generator.choice(rows, count, replace=False))
        left -= count
    return np.sort(np.concatenate(parts))


def trained(
    task: TrainingTask, specs: tuple[LearnerSpec, ...], draw: Draw, equal_steps: bool
) -> TrainingTask:
    """The task with predictions of base learners that were trained on what `draw` gives them."""
    recipe, share = task.experiment.learner_recipe, task.experiment.specialty_share
    labels_S = task.train.labels_S
    indices = [draw(labels_S, spec, share, seed) for seed, spec in enumerate(specs)]
    mean_size = np.mean([len(own) for own in indices])
    cpu = torch.device("cpu")
    images_SCHW, labels = to_tensor(task.train.images_SCHW, cpu), to_tensor(labels_S, cpu)
    probs: dict[str, list[NDArray[np.float32]]] = {"train": [], "valid": []}
    for seed, own in enumerate(indices):
        epochs = recipe.epochs
        if equal_steps:
            epochs = max(1, round(epochs * mean_size / len(own)))
        own_recipe = replace(recipe, epochs=epochs)
        network = task.plan.build(len(task.splits.class_names), seed, recipe.in_bfloat16)

        def batch_loss(
            batch_B: torch.Tensor, generator: torch.Generator, network: torch.nn.Module = network
        ) -> torch.Tensor:
            pictures = augment(images_SCHW[batch_B], recipe.augmentation, generator)
            return cross_entropy(network(pictures), labels[batch_B])

        run = Training(network, batch_loss, torch.from_numpy(own), own_recipe, seed)
        for _ in range(epochs):
            run.run_epoch()
        for name, split in (("train", task.train), ("valid", task.valid)):
            logits = predict(network, to_tensor(split.images_SCHW, cpu))
            probs[name].append(logits.softmax(-1).numpy())
    by_name: dict[str, Split] = {
        name: replace(task.splits[name], probs_SNC=np.stack(rows, 1))  # type: ignore[index]
        for name, rows in probs.items()
    }
    return replace(task, splits=replace(task.splits, by_name=by_name))  # type: ignore[arg-type]


def measured(
    task: TrainingTask, specs: tuple[LearnerSpec, ...], draw: Draw
) -> tuple[float | None, ...]:
    """Accuracies on valid: of the learners, the average, the corrected pool and e2e-CEL."""
    valid, labels_S = task.valid, task.train.labels_S
    share, priors = task.experiment.specialty_share, []
    for seed, spec in enumerate(specs):
        drawn = labels_S[draw(labels_S, spec, share, seed)]
        priors.append(np.bincount(drawn, minlength=len(task.splits.class_names)) / len(drawn))
    log_SNC = np.log(valid.probs_SNC.clip(1e-12)) - np.log(np.stack(priors))
    correct = [
        (scores_SC.argmax(-1) == valid.labels_S).mean()
        for scores_SC in (valid.probs_SNC.mean(1), log_SNC.sum(1))
    ]
    training = task.begin(task.experiment.first_trial, torch.device("cpu"))
    return (*learner_accuracies(valid, specs), *correct, training.run().valid_accuracy)


def main() -> None:
    """Print the table."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("dataset")
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--seeds", type=int, default=1)
    arguments = flags.parse_args()
    torch.set_num_threads(1)
    experiment = resolved(load_experiment(arguments.dataset, "quick"))
    experiment = replace(experiment, first_trial=replace(experiment.first_trial, k="any"))
    readings: dict[str, tuple[Draw, bool]] = {
        "equal epochs, others as they come": (specialised_indices, False),
        "equal steps, others as they come": (specialised_indices, True),
        "equal epochs, equal counts of others": (equal_counts, False),
    }
    print(f"torch {torch.__version__}, one thread, preset quick, valid")
    rows = []
    for seed in range(arguments.seeds):
        with TemporaryDirectory() as folder:
            splits = load_splits(experiment, arguments.data_dir, Path(folder), seed)
            specs = learner_specs(splits.class_names)
            plan = NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())
            task = TrainingTask(experiment, plan, splits, seed)
            for name, (draw, equal_steps) in readings.items():
                found = measured(trained(task, specs, draw, equal_steps), specs, draw)
                rows.append(
                    [name, str(seed), *("-" if x is None else f"{100 * x:.2f}" for x in found)]
                )
                print(rows[-1], flush=True)
    columns = ["specialised", "complementary", "overall", "UA", "prior-corrected pool", "e2e-CEL"]
    print(table(["reading", "seed", *columns], rows))


if __name__ == "__main__":
    main()
