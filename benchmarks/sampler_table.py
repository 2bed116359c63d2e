"""Tabulates the valid accuracy of selection nets over a grid, for the samplers to be replayed on.

    python -m benchmarks.sampler_table cifar10 --data-dir DIR --run-dir RUN --part 0/2

Trains the preset quick's selection net with the exact gradient at each of 7 k, 4 lr and 3 epsilon,
in one process with one thread. The base learners are those of the run directory, which are trained
there first where they are missing. Every finished point is kept in the run directory, so that the
same command carries on where it was stopped; each of n processes with `--part 0/n` to
`--part n-1/n` has its own share of the points. Whichever of them ends with all points there writes
`benchmarks/sampler_table_DATASET.json`. The test split's labels and predictions are not used.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import FloatDistribution

from distcel.execute.inline import InlineExecutor, inline_device, one_thread
from distcel.experiment.errors import DivergedError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, SelectionParams
from distcel.pipeline import train_base_learners
from distcel.rules.learned_vote import third_of
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.storage.files import write_atomically, write_json
from distcel.storage.lock import run_lock
from distcel.storage.provenance import describe_machine
from distcel.train.selection import TrainingTask

PRESET, SEED = "quick", 0
N_K, N_LR, N_EPSILON = 7, 4, 3


def table_path(dataset: str) -> Path:
    """Where the table of a data set is kept."""
    return Path(__file__).parent / f"sampler_table_{dataset}.json"


def grid_ks(n_learners: int) -> list[int]:
    """1, 3, 10, a third of all and all learners, and the middles of the widest gaps between them.

    Gaps and middles are those of a logarithmic scale, as the search has for k.
    """
    ks = sorted({k for k in (1, 3, 10, third_of(n_learners), n_learners) if k <= n_learners})
    while len(ks) < min(N_K, n_learners):
        gaps = [(high / low, low, high) for low, high in pairwise(ks)]
        _, low, high = max(gap for gap in gaps if gap[2] - gap[1] > 1)
        ks = sorted({*ks, max(low + 1, min(high - 1, round((low * high) ** 0.5)))})
    return ks


def cell_middles(distribution: object, count: int) -> list[float]:
    """The middles of so many equal parts of a range, on its logarithmic scale.

    So every value is the nearest one to an equal share of the points that a sampler draws at
    random; the ends of the range would be to half of that.
    """
    assert isinstance(distribution, FloatDistribution), "lr and epsilon of preset quick are ranges"
    assert distribution.log, "on a logarithmic scale"
    edges = np.geomspace(distribution.low, distribution.high, 2 * count + 1)
    return [float(value) for value in edges[1::2]]


def grid(experiment: Experiment, n_learners: int) -> list[SelectionParams]:
    """Every point of the table."""
    lrs = cell_middles(experiment.space["lr"], N_LR)
    epsilons = cell_middles(experiment.space["epsilon"], N_EPSILON)
    return [
        SelectionParams(k=k, epsilon=epsilon, m=1, lr=lr, gradient="exact")
        for k, lr, epsilon in product(grid_ks(n_learners), lrs, epsilons)
    ]


def searched_k(dataset: str) -> Experiment:
    """Preset quick with a k for each trial, as preset paper has it, beginning with the paper's."""
    experiment = load_experiment(dataset, PRESET)
    first = load_experiment(dataset, "paper").first_trial
    return replace(experiment, k="searched", first_trial=replace(experiment.first_trial, k=first.k))


def prepared_run(dataset: str, data_dir: Path, run_dir: Path, epochs: int | None) -> Prepared:
    """The run with its base learners trained; None leaves the selection net the preset's epochs.

    Raises:
        InvalidInputError: they are missing, and another process holds the run directory.
    """
    options = Options(PRESET, data_dir, run_dir.absolute(), SEED, None, None, "none")
    experiment = searched_k(dataset)
    recipe = experiment.selector_recipe
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    prepared = prepare(replace(experiment, selector_recipe=recipe), options)
    learners = zip(prepared.specs, prepared.keys, strict=True)
    if not all(prepared.cache.holds(spec, key) for spec, key in learners):
        with run_lock(options.run_dir):
            train_base_learners(prepared, InlineExecutor())
    return prepared


def measured_point(task: TrainingTask, params: SelectionParams) -> dict[str, Any]:
    """One point: its parameters, the valid accuracy of each epoch, and the seconds of all.

    The epochs of a training that diverged end before it did. Where all learners are selected, what
    the selection net learns changes no prediction: one epoch stands for all.
    """
    training, accuracies, seconds = task.begin(params, inline_device()), [], 0.0
    n_epochs = task.experiment.selector_recipe.epochs
    all_vote = params.k == task.train.probs_SNC.shape[1]
    try:
        for _ in range(1 if all_vote else n_epochs):
            result = training.run_epoch()
            accuracies.append(round(result.valid_accuracy, 6))
            seconds += result.seconds
    except DivergedError:
        pass
    accuracies *= n_epochs if all_vote else 1
    point = {"k": params.k, "lr": params.lr, "epsilon": params.epsilon}
    return point | {"seconds": round(seconds, 2), "valid_accuracy": accuracies}


def point_path(folder: Path, params: SelectionParams) -> Path:
    """Where one point is kept until all are there."""
    return folder / f"k{params.k}-lr{params.lr:.4g}-epsilon{params.epsilon:.4g}.json"


def tabulate(prepared: Prepared, points: list[SelectionParams], folder: Path) -> None:
    """Measure the points that the folder does not have yet, and keep each there."""
    missing = [params for params in points if not point_path(folder, params).exists()]
    print(f"{len(points) - len(missing)} of {len(points)} points are there", flush=True)
    task, started = prepared.selection_task(), time.monotonic()
    for done, params in enumerate(missing, 1):
        point = measured_point(task, params)
        write_json(point_path(folder, params), point)
        left = (time.monotonic() - started) / done * (len(missing) - done)
        accuracy = f"{point['valid_accuracy'][-1]:.4f}" if point["valid_accuracy"] else "diverged"
        where = f"k={params.k} lr={params.lr:.3g} epsilon={params.epsilon:.3g}"
        what = f"valid {accuracy}, {point['seconds']:.0f} s, {left / 60:.0f} min to go"
        print(f"{done}/{len(missing)} {where}: {what}", flush=True)


def write_table(prepared: Prepared, points: list[SelectionParams], folder: Path) -> Path | None:
    """Write the table, a line a point, if all points are there."""
    paths = [point_path(folder, params) for params in points]
    if not all(path.exists() for path in paths):
        return None
    recipe = prepared.experiment.selector_recipe
    facts = {
        "dataset": prepared.experiment.dataset,
        "preset": PRESET,
        "seed": SEED,
        "n_learners": len(prepared.specs),
        "n_samples": {name: len(prepared.splits[name].labels_S) for name in ("train", "valid")},
        "recipe": asdict(recipe),
        "torch": torch.__version__,
        "machine": describe_machine(),
        "commit": prepared.commit,
    }
    lines = ",\n".join(json.dumps(json.loads(path.read_bytes())) for path in paths)
    text = f'{json.dumps(facts)[:-1]}, "points": [\n{lines}\n]}}\n'
    final = table_path(prepared.experiment.dataset)
    write_atomically(final, lambda file: file.write(text.encode()))
    return final


def main() -> None:
    """Tabulate a part, and write the table once every part is done."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("dataset")
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--run-dir", type=Path, required=True)
    flags.add_argument("--part", default="0/1", help="i/n: every n-th point, from the i-th (0/1)")
    flags.add_argument("--epochs", type=int, help="of a selection net (the preset's)")
    arguments = flags.parse_args()
    part, n_parts = (int(number) for number in arguments.part.split("/"))
    if not 0 <= part < n_parts:
        flags.error(f"--part i/n with 0 <= i < n, not {arguments.part}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_thread():
        prepared = prepared_run(
            arguments.dataset, arguments.data_dir, arguments.run_dir, arguments.epochs
        )
        points = grid(prepared.experiment, len(prepared.specs))
        # The key of a search: other predictions, recipes, ranges or versions have another folder.
        folder = prepared.options.run_dir / "table" / prepared.search_key
        tabulate(prepared, points[part::n_parts], folder)
        print(write_table(prepared, points, folder) or "other parts have points to go")


if __name__ == "__main__":
    main()
