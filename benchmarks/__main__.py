"""Runs every benchmark, one after another on a quiet machine, and writes BENCHMARKS.md.

    python -m benchmarks [--data-dir DIR] [--only NAME]

It takes about 45 minutes. DIR holds CIFAR-10, for the one that needs real data. With --only, the
named part of an existing BENCHMARKS.md is replaced.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from benchmarks import (
    base_learners,
    knapsack,
    mlflow_faults,
    perturbed_optimisers,
    scale,
    search,
    start_up,
    time_to_accuracy,
    training_step,
)
from benchmarks.measure import conditions

FILE = Path("BENCHMARKS.md")
HEAD = """# Benchmarks

`python -m benchmarks --data-dir DIR` wrote this file; each part says when and where it was
measured. Ratios are of medians, with the quartiles of the paired turns in brackets; targets stand
beside them. `benchmarks/NOTES.md` says what was tried where a target is missed, and its text
is the last part of this file."""


def parts(data_dir: Path | None) -> dict[str, tuple[str, Callable[[], str]]]:
    """Title and report of each module, by its name."""
    return {
        "knapsack": ("Knapsack layer", knapsack.report),
        "perturbed_optimisers": ("Other perturbed optimisers", perturbed_optimisers.report),
        "training_step": ("A trial's training step", training_step.report),
        "base_learners": ("Base learners on a CPU", base_learners.report),
        "search": ("The search", search.report),
        "time_to_accuracy": ("Time to accuracy", lambda: time_to_accuracy.report(data_dir)),
        "scale": ("Scale", scale.report),
        "start_up": ("Start-up", start_up.report),
        "mlflow_faults": ("MLflow that fails", mlflow_faults.report),
    }


def written() -> dict[str, str]:
    """The parts of BENCHMARKS.md as it stands, by their titles."""
    text = FILE.read_text() if FILE.is_file() else ""
    found = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {title: body.strip() for title, body in zip(found[::2], found[1::2], strict=True)}


def main() -> None:
    """Run and write."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path)
    flags.add_argument("--only", choices=list(parts(None)), action="append")
    arguments = flags.parse_args()
    todo = parts(arguments.data_dir)
    texts = written()
    for name in arguments.only or todo:
        title, report = todo[name]
        module = f"`python -m benchmarks.{name}`"
        texts[title] = f"{module}, {datetime.now():%Y-%m-%d}, {conditions()}.\n\n{report()}"
        print(f"## {title}\n\n{texts[title]}\n", flush=True)
        notes = (Path(__file__).parent / "NOTES.md").read_text()
        ordered = [f"## {t}\n\n{texts[t]}" for t, _ in todo.values() if t in texts]
        FILE.write_text("\n\n".join([HEAD, *ordered, notes]).strip() + "\n")


if __name__ == "__main__":
    main()
