"""One selection net for every k against a net trained for each k alone.

    python -m benchmarks.any_k DATASET --data-dir DIR --run-dir RUN [--seeds 3]

Preset quick's recipe, exact gradient, the first trial's epsilon and lr, in one process. Valid
accuracy, whose standard error with S samples is the binomial's. Everything is kept in RUN/seedN, so
that the same command continues where it was stopped. The test split's labels are not used.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.measure import table
from distcel.execute.inline import InlineExecutor
from distcel.experiment.loading import load_experiment
from distcel.pipeline import train_base_learners
from distcel.rules.learned_vote import third_of
from distcel.search.kept import train_missing
from distcel.search.options import Options
from distcel.search.prepare import prepare
from distcel.search.refit import SmartRule, choose_k
from distcel.train.checkpoint import TrainedNetwork

TARGET = 0.5  # points below a net of one k, at most


def accuracies(dataset: str, data_dir: Path, folder: Path, seed: int) -> dict[int, list[float]]:
    """By k: of the net for that k alone, and of the one for every k, on valid, in %."""
    options = Options("quick", data_dir, folder / f"seed{seed}", seed, None, None, "none")
    prepared = prepare(load_experiment(dataset, "quick"), options)
    executor = InlineExecutor()
    train_base_learners(prepared, executor)
    task, first = prepared.selection_task(), prepared.search.first
    ks = sorted({1, 2, 3, 10, third_of(len(prepared.specs))})
    rules = {"k = any": SmartRule(first)}
    rules |= {f"k = {k}": SmartRule(replace(first, k=k)) for k in ks}
    trained = train_missing(rules, task, executor, options.run_dir / "any_k")
    networks = {name: n for name, n in trained.items() if isinstance(n, TrainedNetwork)}
    _, over_k = choose_k(task, first, networks["k = any"])
    return {
        k: [100 * networks[f"k = {k}"].valid_accuracy, 100 * over_k[k - 1]]
        for k in ks
        if f"k = {k}" in networks
    }


def report(dataset: str, data_dir: Path, folder: Path, n_seeds: int) -> str:
    """The table, as Markdown."""
    by_seed = [accuracies(dataset, data_dir, folder, seed) for seed in range(n_seeds)]
    rows = []
    for k in by_seed[0]:
        values = np.array([found[k] for found in by_seed])
        lead = values[:, 1] - values[:, 0]
        leads = ", ".join(f"{one:+.2f}" for one in lead)
        judged = k >= 3
        verdict = ("met" if lead.mean() >= -TARGET else "**missed**") if judged else "no target"
        means = [
            f"{mean:.2f} ± {std:.2f}"
            for mean, std in zip(values.mean(0), _std(values), strict=True)
        ]
        rows.append([k, *means, f"{lead.mean():+.2f} ({leads})", verdict])
    columns = ["k", "a net for it alone", "a net for every k", "difference (seeds)", f"{-TARGET}"]
    return table(columns, rows)


def _std(values: np.ndarray) -> np.ndarray:
    spread: np.ndarray = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    return spread


def main() -> None:
    """As the command line says."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("dataset")
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--run-dir", type=Path, required=True)
    flags.add_argument("--seeds", type=int, default=3)
    chosen = flags.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("distcel").setLevel(logging.INFO)
    print(report(chosen.dataset, chosen.data_dir, chosen.run_dir, chosen.seeds))


if __name__ == "__main__":
    main()
