"""Numbers of tiny trainings, which change with any change of the training code.

python -m tests.train.golden      records them in golden.json beside this file

Each stage's numbers stand beside its CACHE_VERSION, and recording refuses to replace the numbers of
a stage whose version is still the same. Of so few steps the numbers are equal to 2e-7 whatever
instructions a processor has (AVX-512, AVX2, none of both), while one percent of the learning rate
moves each of them by 6e-5 or more, another seed or order of the batches by 4e-3 or more.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from distcel.core.networks import NetworkPlan
from distcel.data import splits as data_splits
from distcel.data.splits import Split, Splits
from distcel.execute.jobs import Progress
from distcel.experiment.architecture import Architecture
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, Recipe, SelectionParams
from distcel.rules.gating import GatedEnsemble
from distcel.rules.single_network import SingleNetwork
from distcel.search import kept
from distcel.search.kept import TrainableRule
from distcel.train import learner, selection
from distcel.train.cache import TrainedLearner
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import train_learner
from distcel.train.selection import TrainingTask
from tests.cached_splits import made_split, made_splits
from tests.made_data import balanced, pictures

PATH = Path(__file__).with_name("golden.json")
COMMAND = "python -m tests.train.golden"
TOLERANCE = 2e-5
CPU = torch.device("cpu")
N_CLASSES, N_LEARNERS = 3, 6
Numbers = dict[str, list[float] | str]
# The module with the CACHE_VERSION of each stage.
MODULES = {
    "splits": data_splits,
    "base learners": learner,
    "trials": selection,
    "trained rules": kept,
}

EXPERIMENT = Experiment(
    dataset="digits",
    image_size=None,
    specialty_share=0.5,
    architecture=Architecture("lenet", (2, 3)),
    learner_recipe=Recipe("sgd", 0.02, 3, 10, "step", momentum=0.9, augmentation="flip_crop"),
    selector_recipe=Recipe("adam", 0.003, 3, 20, "one_cycle", augmentation="flip"),
    space={},
    first_trial=SelectionParams(k=2, epsilon=0.1, m=8, lr=0.003, gradient="exact"),
    num_samples=1,
)
RESNET = replace(
    EXPERIMENT,
    architecture=Architecture("resnet9", (2, 3, 4, 5)),
    learner_recipe=Recipe("adadelta", 1.0, 2, 20, "step"),
)


@dataclass(frozen=True)
class Stage:
    """The version of a stage's results, and numbers of its trainings."""

    cache_version: int
    numbers: Numbers


def measure() -> dict[str, Stage]:
    """The current stages, by name."""
    task = selection_task(EXPERIMENT)
    numbers = {
        "splits": split_numbers(),
        "base learners": learner_numbers(),
        "trials": trial_numbers(task),
        "trained rules": rule_numbers(task),
    }
    return {name: Stage(MODULES[name].CACHE_VERSION, found) for name, found in numbers.items()}


def split_numbers() -> Numbers:
    """The digest of ids, labels and pixels of a data set whose images are resized."""
    with TemporaryDirectory() as folder:
        experiment = load_experiment("digits", "smoke")
        return {"digits": data_splits.load_splits(experiment, Path(folder), Path(folder), 0).digest}


def learner_numbers() -> Numbers:
    """Losses and a few probabilities of a base learner of each small architecture."""
    labels = balanced(N_CLASSES, 20)
    no_probs = np.empty((len(labels), 0, N_CLASSES))
    train = made_split(labels, no_probs, pictures(labels, 1, 16, seed=0))
    splits = Splits(("0", "1", "2"), {"train": train}, digest="made", n_duplicates=0)
    spec = LearnerSpec("0+1", (0, 1))
    numbers: Numbers = {}
    for name, experiment in {"lenet": EXPERIMENT, "resnet9": RESNET}.items():
        task = TrainingTask(experiment, plan(experiment), splits, seed=0)
        *progress, trained = train_learner(spec, task, CPU, predicted=["train"])
        assert isinstance(trained, TrainedLearner)
        losses = [event.train_loss for event in progress if isinstance(event, Progress)]
        probs = trained.probs_by_split["train"][:2].ravel().tolist()
        numbers[name] = [*losses, *probs]
    return numbers


def trial_numbers(task: TrainingTask) -> Numbers:
    """The losses of a trial by each gradient and each vote."""
    first = EXPERIMENT.first_trial
    points = {
        "exact": first,
        "conditional": replace(first, gradient="conditional"),
        "paper": replace(first, gradient="paper"),
        "learned vote": replace(first, vote="learned"),
    }
    return {name: of_training(task.begin(point, CPU).run()) for name, point in points.items()}


def rule_numbers(task: TrainingTask) -> Numbers:
    """The losses of each other rule that is trained."""
    params = EXPERIMENT.first_trial
    rules: dict[str, TrainableRule] = {
        "soft gating": GatedEnsemble("soft_gating", params),
        "straight-through": GatedEnsemble("straight_through", params),
        "single network": SingleNetwork(epochs=2, lr=params.lr),
    }
    numbers: Numbers = {}
    for name, rule in rules.items():
        *_, trained = rule.train(task, CPU, None)
        assert isinstance(trained, TrainedNetwork)
        numbers[name] = of_training(trained)
    return numbers


def of_training(trained: TrainedNetwork) -> list[float]:
    """The losses of a training, and the last layer's biases, which change though masks do not."""
    losses = [loss for epoch in trained.epochs for loss in (epoch.train_loss, epoch.valid_loss)]
    *_, biases = (value for name, value in trained.weights.items() if name.endswith(".bias"))
    return [*losses, *biases.tolist()]


def plan(experiment: Experiment) -> NetworkPlan:
    assert isinstance(experiment.architecture, Architecture)
    return NetworkPlan(experiment.architecture, (1, 16, 16), (0.2,), (0.3,))


def selection_task(experiment: Experiment) -> TrainingTask:
    splits = made_splits(*(made_predictions(seed) for seed in (0, 1)))
    return TrainingTask(experiment, plan(experiment), splits, seed=0)


def made_predictions(seed: int) -> Split:
    """The outputs of learners that are correct for some classes and guess the others."""
    labels = balanced(N_CLASSES, 20)
    probs = np.random.default_rng(seed).dirichlet(np.ones(N_CLASSES), (len(labels), N_LEARNERS))
    right: NDArray[np.float64] = np.eye(N_CLASSES)[labels]
    for i in range(N_LEARNERS):
        is_known = labels == i % N_CLASSES
        probs[is_known, i] = 0.5 * probs[is_known, i] + 0.5 * right[is_known]
    images = pictures(labels, 1, 16, seed)
    return made_split(labels, probs, images)


def same(found: Numbers, expected: Numbers) -> bool:
    """Whether the numbers are equal up to the rounding of different instructions."""
    if found.keys() != expected.keys():
        return False
    for name, values in found.items():
        if isinstance(values, str) or isinstance(expected[name], str):
            if values != expected[name]:
                return False
        elif not np.allclose(values, expected[name], rtol=0, atol=TOLERANCE):
            return False
    return True


def complaints(found: Mapping[str, Stage], recorded: Mapping[str, Stage]) -> list[str]:
    """The necessary step for each stage that is not as recorded."""
    lines = []
    for name, stage in found.items():
        golden, version = recorded.get(name), f"{MODULES[name].__name__}.CACHE_VERSION"
        if golden is None or stage.cache_version != golden.cache_version:
            lines.append(f"{name}: {version} was raised, so record the new numbers: {COMMAND}")
        elif not same(stage.numbers, golden.numbers):
            lines.append(
                f"{name}: the numbers changed, so raise {version}, or run directories keep results "
                f"of the earlier code, and record the new numbers: {COMMAND}"
            )
    return lines


def read() -> dict[str, Stage]:
    return {name: Stage(**stage) for name, stage in json.loads(PATH.read_text()).items()}


def record(found: Mapping[str, Stage]) -> list[str]:
    """Write the numbers, unless a stage has other numbers under the same version."""
    lines = complaints(found, read()) if PATH.exists() else []
    refused = [line for line in lines if "numbers changed" in line]
    if not refused:
        text = json.dumps({name: asdict(stage) for name, stage in found.items()}, indent=2)
        PATH.write_text(text + "\n")
    return refused


if __name__ == "__main__":
    sys.exit("\n".join(record(measure())) or None)
