"""Runs every benchmark, one after another on a quiet machine, and puts it into docs/benchmarks.md.

    python -m benchmarks [--data-dir DIR] [--only NAME]

It takes about an hour. DIR holds CIFAR-10 and FER2013, for those that need real data. With --only,
the named section alone is measured and replaced. The page's summary and its notes are written by
hand: bring them up to date afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks import (
    base_learners,
    knapsack,
    memory,
    mlflow_faults,
    perturbed_optimisers,
    precision,
    scale,
    search,
    serving,
    start_up,
    time_to_accuracy,
    training_step,
)
from benchmarks.measure import conditions
from benchmarks.page import FILE, replaced


def parts(data_dir: Path | None) -> dict[str, tuple[str, Callable[[], str]]]:
    """Title and report of each module, by its name."""
    return {
        "knapsack": ("Knapsack layer", knapsack.report),
        "perturbed_optimisers": ("Other perturbed optimisers", perturbed_optimisers.report),
        "training_step": ("A trial's training step", training_step.report),
        "base_learners": ("Base learners on a CPU", base_learners.report),
        "memory": ("Memory that is used again", memory.report),
        "precision": ("Precision", lambda: precision.report(data_dir)),
        "search": ("The search", search.report),
        "time_to_accuracy": ("Time to accuracy", lambda: time_to_accuracy.report(data_dir)),
        "scale": ("Scale", scale.report),
        "serving": ("Serving", serving.report),
        "start_up": ("Start-up", start_up.report),
        "mlflow_faults": ("MLflow that fails", mlflow_faults.report),
    }


def main() -> None:
    """Run and write."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path)
    flags.add_argument("--only", choices=list(parts(None)), action="append")
    arguments = flags.parse_args()
    todo = parts(arguments.data_dir)
    for name in arguments.only or todo:
        title, report = todo[name]
        module = f"`python -m benchmarks.{name}`"
        text = f"{module}, {datetime.now():%Y-%m-%d}, {conditions()}.\n\n{report()}"
        print(f"## {title}\n\n{text}\n", flush=True)
        FILE.write_text(replaced(FILE.read_text(), title, text))


if __name__ == "__main__":
    main()
