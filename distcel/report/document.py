"""The report of a launch and of a reproduction as Markdown, from `results.json` alone."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distcel.report import notes, sentences
from distcel.report.claims import over_seeds
from distcel.report.figures import draw_figure_2, draw_pareto
from distcel.report.frame import (
    Results,
    accuracies,
    bullets,
    by_rule,
    curve_keys,
    markdown,
    over_k,
)
from distcel.report.parts import (
    Figure,
    Part,
    Table,
    further_parts,
    launch_parts,
    launch_title,
    papers_parts,
    reproduction_title,
)
from distcel.storage.files import write_atomically, write_json


def launch_report(results: Results) -> str:
    """Tables 1 to 3 of one launch under a heading, with the paper's numbers beside its own."""
    return f"# {launch_title(results)}\n\n{launch_tables(results)}"


def launch_tables(results: Results) -> str:
    """The launch's report without its heading, for pages that have one of their own."""
    return _laid_out(launch_parts(results))


def reproduction_report(results: Results) -> str:
    """Everything that a reproduction measured, under a heading, with the notes at its end."""
    body, explained = reproduction_body(results), notes.of_reproductions([results])
    return f"# {reproduction_title(results)}\n\n{body}\n## Notes\n\n{bullets(explained)}\n"


def reproduction_body(results: Results, figures: str = ".") -> str:
    """The report of a reproduction without heading and notes; `figures` is the figures' folder."""
    closing = [sentences.times(results), sentences.provenance(results)]
    return _laid_out([*papers_parts(results), *further_parts(results), *closing], figures)


def reproduction_tables(results: Results) -> str:
    """The paper's tables alone: MLflow refuses a description of the whole report's length."""
    last = "The other tables and the figures are artifacts of this run."
    return _laid_out([*papers_parts(results), last])


def reproduction_metrics(results: Results) -> dict[str, float]:
    """The means over the seeds, named `accuracy/KEY` and `calibration_error/KEY`, as fractions."""
    errors = by_rule(results, lambda found, key: found["rules"][key].get("calibration_error"))
    frames = {"accuracy": accuracies(results), "calibration_error": errors.dropna()}
    return {
        f"{name}/{key}": statistics.mean(row)
        for name, frame in frames.items()
        for key, row in frame.iterrows()
    }


def reproduction_curves(results: Results) -> dict[str, dict[int, float]]:
    """The means over the seeds that Figure 2 shows, by the rule's key and by k, as fractions."""
    return {
        key: {int(k): statistics.mean(row) for k, row in over_k(results, key).iterrows()}
        for key in curve_keys(results)
    }


def write_reproduction(folder: Path, results: dict[str, Any]) -> str:
    """Write report.md, results.json and the figures into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = reproduction_report(results)
    write_json(folder / "results.json", {**results, "over_seeds": over_seeds(results)})
    draw_figure_2(results, folder)
    draw_pareto(results, folder)
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    return text


def _laid_out(parts: Sequence[Part], figures: str = ".") -> str:
    return "\n\n".join(_markdown(part, figures).strip() for part in parts) + "\n"


def _markdown(part: Part, figures: str) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Table):
        return f"{part.caption}\n\n{markdown(part.frame)}"
    assert isinstance(part, Figure), "the others are the page's alone"
    return f"{part.caption}\n\n![{part.alt}]({figures}/{part.name}.svg)"
