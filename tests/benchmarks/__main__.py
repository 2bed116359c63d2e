"""Runs every benchmark, one after another on a quiet machine, and writes BENCHMARKS.md.

python -m tests.benchmarks
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tests.benchmarks import knapsack, mlflow_faults, start_up, training_step
from tests.benchmarks.measure import conditions

MODULES = {
    "Knapsack layer": knapsack,
    "A trial's training step": training_step,
    "Start-up": start_up,
    "MLflow that fails": mlflow_faults,
}


def main() -> None:
    """Run and write."""
    parts = ["# Benchmarks", f"`python -m tests.benchmarks`, {datetime.now():%Y-%m-%d}."]
    parts.append(
        "Ratios are of medians, with the quartiles of the paired turns in brackets; targets stand "
        "beside them."
    )
    for title, module in MODULES.items():
        parts += [f"## {title}", f"{conditions()}.", module.report()]
        print("\n\n".join(parts[-3:]), end="\n\n", flush=True)
    Path("BENCHMARKS.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
