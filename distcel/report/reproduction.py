"""A reproduction over several seeds as files and in MLflow."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from distcel.evaluate.outcome_json import as_json
from distcel.evaluate.outcomes import (
    CURVES,
    SeedOutcome,
    accuracies_at,
    common_ks,
    common_rules,
    cost_points,
)
from distcel.experiment.types import Published
from distcel.report.document import report
from distcel.report.figures import draw_figure_2, draw_pareto
from distcel.storage.files import content_key, write_atomically, write_json
from distcel.tracking.records import TrackedReproduction


def write(
    folder: Path,
    title: str,
    command: str,
    outcomes: Sequence[SeedOutcome],
    published: Published | None,
) -> str:
    """Write report.md, results.json and the figures into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"# {title}\n\n{report(command, outcomes, published)}"
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    draw_figure_2(title, outcomes, folder)
    draw_pareto(title, outcomes, folder)
    results = {
        "command": command,
        "seeds": [as_json(outcome) for outcome in outcomes],
        "cost": [asdict(point) for point in cost_points(outcomes)],
    }
    write_json(folder / "results.json", results)
    return text


def tracked(
    name: str, dataset: str, outcomes: Sequence[SeedOutcome], folder: Path, artifacts: Path
) -> TrackedReproduction:
    """What MLflow shows of it: means over the seeds, and the paper's tables as its description.

    Args:
        name: of the run.
        dataset: the MLflow experiment is named after it.
        outcomes: of each seed.
        folder: where `write` put the files.
        artifacts: folder for MLflow's artifacts where the URI is a database.
    """
    measures = [outcome.comparison.measures for outcome in outcomes]
    titles = common_rules(outcomes)
    metrics = {
        f"accuracy/{t}": statistics.mean(m.accuracy[t] for m in measures) for t in titles
    } | {
        f"calibration_error/{t}": statistics.mean(m.calibration_error[t] for m in measures)
        for t in titles
        if t in measures[0].calibration_error
    }
    curves = {
        rule: {k: statistics.mean(accuracies_at(outcomes, k, rule)) for k in common_ks(outcomes)}
        for rule in CURVES
    }
    seeds = ", ".join(str(outcome.results["seed"]) for outcome in outcomes)
    return TrackedReproduction(
        dataset=dataset,
        run_name=f"reproduction of {name}",
        key=content_key([name, str(folder.resolve())]),
        description=_papers_tables((folder / "report.md").read_text()),
        params={"seeds": seeds},
        metrics=metrics,
        curves=curves,
        files=sorted(path for path in folder.iterdir() if path.is_file()),
        artifacts=artifacts,
    )


def _papers_tables(report: str) -> str:
    """The report's beginning but for its title: MLflow refuses a description as long as all."""
    tables = report[report.index("\n\n") + 2 : report.index("\n\nTable 4")]
    return f"{tables}\n\nThe other tables and the figures are artifacts of this run."
