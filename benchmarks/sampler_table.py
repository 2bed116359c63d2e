"""Tabulates the valid accuracy of selection nets over a grid, for the samplers to be replayed on.

    python -m benchmarks.sampler_table cifar10 --data-dir DIR --run-dir RUN

Trains the preset quick's selection net, one for every k, at each point of a grid of lr and epsilon,
in one process with one thread. The base learners are those of the run directory, which are trained
there first where they are missing. Every finished point is kept in the run directory, so that the
same command carries on where it was stopped; the last one writes
`benchmarks/sampler_table_DATASET.json`. The test split's labels and predictions are not used.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import FloatDistribution

from distcel.execute.inline import InlineExecutor, inline_device
from distcel.execute.process import worker_settings
from distcel.experiment.errors import DivergedError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, SelectionParams
from distcel.pipeline import train_base_learners
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.search.refit import choose_k
from distcel.storage.files import write_atomically, write_json
from distcel.storage.lock import run_lock
from distcel.storage.provenance import describe_machine
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask

PRESET, SEED = "quick", 0
N_LR, N_EPSILON = 5, 3  # 2 n - 1 of either halves the steps and keeps the points that are there


def table_path(dataset: str) -> Path:
    """Where the table of a data set is kept."""
    return Path(__file__).parent / f"sampler_table_{dataset}.json"


def axis(distribution: object, count: int) -> list[float]:
    """So many values of a range, its ends among them, evenly spaced on its logarithmic scale."""
    assert isinstance(distribution, FloatDistribution), "lr and epsilon of preset quick are ranges"
    assert distribution.log, "on a logarithmic scale"
    return [float(value) for value in np.geomspace(distribution.low, distribution.high, count)]


def grid(experiment: Experiment) -> list[SelectionParams]:
    """Every point of the table: the first trial at other lr and epsilon."""
    lrs = axis(experiment.space["lr"], N_LR)
    epsilons = axis(experiment.space["epsilon"], N_EPSILON)
    first = replace(experiment.first_trial, k="any")
    return [replace(first, lr=lr, epsilon=epsilon) for epsilon, lr in product(epsilons, lrs)]


def prepared_run(dataset: str, data_dir: Path, run_dir: Path) -> Prepared:
    """The run with its base learners trained.

    Raises:
        InvalidInputError: they are missing, and another process holds the run directory.
    """
    options = Options(PRESET, data_dir, run_dir.absolute(), SEED, None, None, "none")
    prepared = prepare(load_experiment(dataset, PRESET), options)
    learners = zip(prepared.specs, prepared.keys, strict=True)
    if not all(prepared.cache.holds(spec, key) for spec, key in learners):
        with run_lock(options.run_dir):
            train_base_learners(prepared, InlineExecutor())
    return prepared


def measured_point(task: TrainingTask, params: SelectionParams) -> dict[str, Any]:
    """One point: lr, epsilon, seconds of all epochs, and the accuracies on valid.

    `valid_accuracy` has that of each epoch at its best k, up to where the training diverged;
    `over_k` that of the last epoch at k = 1..N, and is empty if it diverged.
    """
    point = {"lr": params.lr, "epsilon": params.epsilon}
    training, epochs = task.begin(params, inline_device()), []
    try:
        for _ in range(task.experiment.selector_recipe.epochs):
            epochs.append(training.run_epoch())
        weights = {name: value.numpy() for name, value in training.ensemble.state_dict().items()}
        trained = TrainedNetwork(weights, epochs[-1].valid_accuracy, tuple(epochs))
        _, over_k = choose_k(task, params, trained)
    except DivergedError:
        over_k = []
    return point | {
        "seconds": round(sum(epoch.seconds for epoch in epochs), 1),
        "valid_accuracy": [round(epoch.valid_accuracy, 5) for epoch in epochs],
        "over_k": [round(accuracy, 5) for accuracy in over_k],
    }


def point_path(folder: Path, params: SelectionParams) -> Path:
    """Where one point is kept until all are there."""
    return folder / f"lr{params.lr:.4g}-epsilon{params.epsilon:.4g}.json"


def tabulate(prepared: Prepared, points: list[SelectionParams], folder: Path) -> None:
    """Measure the points that the folder does not have yet, and keep each there."""
    missing = [params for params in points if not point_path(folder, params).exists()]
    print(f"{len(points) - len(missing)} of {len(points)} points are there", flush=True)
    task, started = prepared.selection_task(), time.monotonic()
    for done, params in enumerate(missing, 1):
        point = measured_point(task, params)
        write_json(point_path(folder, params), point)
        left = (time.monotonic() - started) / done * (len(missing) - done)
        accuracy = f"{point['valid_accuracy'][-1]:.4f}" if point["over_k"] else "diverged"
        what = f"valid {accuracy}, {point['seconds']:.0f} s, {left / 60:.0f} min to go"
        print(f"lr={params.lr:.3g} epsilon={params.epsilon:.3g}: {what}", flush=True)


def write_table(prepared: Prepared, points: list[SelectionParams], folder: Path) -> Path:
    """Write the table, a line a point."""
    facts = {
        "dataset": prepared.experiment.dataset,
        "preset": PRESET,
        "seed": SEED,
        "n_learners": len(prepared.specs),
        "n_samples": {name: len(prepared.splits[name].labels_S) for name in ("train", "valid")},
        "recipe": asdict(prepared.experiment.selector_recipe),
        "torch": torch.__version__,
        "machine": describe_machine(),
        "commit": prepared.commit,
    }
    kept = (json.loads(point_path(folder, params).read_bytes()) for params in points)
    lines = ",\n".join(json.dumps(point) for point in kept)
    text = f'{json.dumps(facts)[:-1]}, "points": [\n{lines}\n]}}\n'
    final = table_path(prepared.experiment.dataset)
    write_atomically(final, lambda file: file.write(text.encode()))
    return final


def main() -> None:
    """Tabulate what is missing, and write the table."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--run-dir", type=Path, required=True)
    arguments = flags.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with worker_settings():
        prepared = prepared_run(arguments.dataset, arguments.data_dir, arguments.run_dir)
        points = grid(prepared.experiment)
        # The key of a search: other predictions, recipes, ranges or versions have another folder.
        folder = prepared.options.run_dir / "table" / prepared.search_key
        tabulate(prepared, points, folder)
        print(write_table(prepared, points, folder))


if __name__ == "__main__":
    main()
