"""The paper's evaluation over several seeds, its numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distcel.figures import draw_figure_2, draw_pareto
from distcel.outcomes import SeedOutcome, cost_points
from distcel.report import RULE_TITLES
from distcel.seed_tables import (
    beside_paper,
    best_points,
    chosen_on_test,
    class_accuracy,
    cost_against_accuracy,
    every_rule,
    figure_2,
    slice_accuracy,
)
from distcel.storage import write_atomically, write_json
from distcel.types import Published

_PAPER_RULES = {title: name for name, title in RULE_TITLES.items()}


def report(
    title: str,
    command: str,
    outcomes: Sequence[SeedOutcome],
    published: Published | None,
) -> str:
    """Everything as Markdown.

    Args:
        title: heading.
        command: that regenerates it.
        outcomes: of each seed.
        published: the paper's numbers, where it has any.
    """
    first = outcomes[0].results
    seeds = [outcome.results["seed"] for outcome in outcomes]
    versions = ", ".join(f"{name} {v}" for name, v in first["versions"].items())
    minutes = sum(sum(o.results["seconds"].values()) for o in outcomes) / 60
    sections = [
        f"# {title}",
        f"`{command}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        "chosen is chosen on the valid split.",
        "Table 1, base learners (mean over the learners)",
        beside_paper(
            ["specialised", "complementary", "overall"],
            lambda name: [outcome.results[name] for outcome in outcomes],
            lambda name: getattr(published, name, None),
        ),
        "Table 2, smart ensemble and consensus rules",
        beside_paper(
            list(_PAPER_RULES),
            lambda name: [outcome.comparison.measures.accuracy[name] for outcome in outcomes],
            lambda name: getattr(published, _PAPER_RULES[name], None),
        ),
        "Table 3, best sub-ensemble",
        best_points(outcomes, published),
        *_beyond_the_paper(outcomes),
        f"Stages of the launches: {minutes:.1f} minutes in all. {versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _beyond_the_paper(outcomes: Sequence[SeedOutcome]) -> list[str]:
    sections = [
        "Table 4, every rule: accuracy, expected calibration error (15 bins of the confidence in "
        "the chosen class; e2e-CEL's and SL's is the softmax of their summed votes, Eq. 11), and "
        "how much better e2e-CEL is: in brackets the 95 % interval of the paired bootstrap and the "
        "p of McNemar's test, seed by seed",
        every_rule(outcomes),
        "Table 5, accuracy by class (recall), mean over the seeds",
        class_accuracy(outcomes),
        "Figure 2, accuracy over k",
        figure_2(outcomes),
        chosen_on_test(outcomes),
        "Table 6, accuracy against the cost of an image: the selection net and k base learners, or "
        "all n and no selection net. The Pareto front is e2e-CEL's over k, by its mean accuracy on "
        "the test split: a description, nothing is chosen by it. Its knee, if any, is the point "
        "farthest above the chord between its ends (Satopaa et al. 2011)",
        cost_against_accuracy(outcomes),
    ]
    sliced = slice_accuracy(outcomes)
    caption = "Table 7, accuracy by gender and by ethnicity, mean over the seeds"
    return [*sections, caption, sliced] if sliced else sections


def write(
    folder: Path,
    title: str,
    command: str,
    outcomes: Sequence[SeedOutcome],
    published: Published | None,
) -> str:
    """Write report.md, results.json and the figures into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report(title, command, outcomes, published)
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    draw_figure_2(title, outcomes, folder)
    draw_pareto(title, outcomes, folder)
    results = {
        "command": command,
        "seeds": [_as_json(outcome) for outcome in outcomes],
        "cost": [asdict(point) for point in cost_points(outcomes)],
    }
    write_json(folder / "results.json", results)
    return text


def _as_json(outcome: SeedOutcome) -> dict[str, Any]:
    measures = asdict(outcome.comparison.measures)
    measures["e2e_cel_minus"] = measures.pop("against")
    return {
        "results": dict(outcome.results),
        **measures,
        "curve": {str(k): dict(v) for k, v in outcome.comparison.curve.items()},
        "multiply_adds": asdict(outcome.comparison.cost),
    }
