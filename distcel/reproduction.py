"""The paper's evaluation over several seeds, its numbers beside ours."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distcel.consensus import RULE_TITLES
from distcel.figures import draw_figure_2, draw_pareto
from distcel.gradient_table import gradient_table
from distcel.outcomes import (
    CURVES,
    SeedOutcome,
    accuracies_at,
    common_ks,
    common_rules,
    cost_points,
)
from distcel.report import duplicates, read_before
from distcel.rules import SETTINGS
from distcel.seed_tables import (
    beside_paper,
    best_points,
    chosen_otherwise,
    class_accuracy,
    cost_against_accuracy,
    diverged,
    every_rule,
    figure_2,
    slice_accuracy,
)
from distcel.storage import content_key, write_atomically, write_json
from distcel.tracked import TrackedReproduction
from distcel.trained_rules import TrainedRule
from distcel.types import Published

_OF_TRAINED_RULES = (
    ". The learned vote of few has k at most n/3 and a search of its own; straight-through top-k, "
    "soft gating and the single networks are trained by the selection net's recipe at e2e-CEL's "
    "lr, which was not searched for them, and its schedule stretched over all their epochs; a "
    "single network counts after its best epoch on valid, e2e-CEL after its last"
)
_PAPER_RULES = {title: name for name, title in RULE_TITLES.items()}


def report(command: str, outcomes: Sequence[SeedOutcome], published: Published | None) -> str:
    """Everything as Markdown, without a heading.

    Args:
        command: that regenerates it.
        outcomes: of each seed.
        published: the paper's numbers, where it has any.
    """
    first = outcomes[0].results
    seeds = [outcome.results["seed"] for outcome in outcomes]
    note, left_out = first["note"], duplicates([o.results["n_duplicates"] for o in outcomes])
    read = {f"seed {o.results['seed']}": o.results["test_read_after"] for o in outcomes}
    named = first["versions"] | ({"commit": first["commit"]} if first["commit"] else {})
    versions = ", ".join(f"{name} {value}" for name, value in named.items())
    sections = [
        f"`{command}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        f"chosen is chosen on the valid split. {left_out}{read_before(read)}{note}".strip(),
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
        _times(outcomes),
        f"Seed {seeds[0]} was last launched on {first['machine']} and ended at {first['ended']}. "
        f"{versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _times(outcomes: Sequence[SeedOutcome]) -> str:
    """What all trainings took, whichever launch they ran in."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.results["seconds"])
        total.update(outcome.comparison.seconds)
    parts = [f"{what.replace('_', ' ')} {s / 60:.1f}" for what, s in total.items() if s]
    return (
        f"The trainings of all seeds took {total.total() / 60:.1f} minutes of one worker, without "
        f"the epochs that were lost to interruptions: {', '.join(parts)}."
    )


def _beyond_the_paper(outcomes: Sequence[SeedOutcome]) -> list[str]:
    settings = SETTINGS + (_OF_TRAINED_RULES if outcomes[0].comparison.trained else "")
    sections = [
        "Table 4, every rule: accuracy, expected calibration error (15 bins of the confidence in "
        "the chosen class; e2e-CEL's and SL's is the softmax of their summed votes, Eq. 11), and "
        "how much better e2e-CEL, and the learned vote where it is there, are: in brackets the "
        "95 % interval of the paired bootstrap and the p of McNemar's test, seed by seed. Both are "
        "about the test images alone, not about the training, and p is not corrected for the "
        f"number of rules. {settings}",
        every_rule(outcomes),
        *filter(None, [diverged(outcomes)]),
        "Table 5, accuracy by class (recall), mean over the seeds",
        class_accuracy(outcomes),
        "Figure 2, accuracy over k; epsilon, m, lr and gradient are those that each seed's search "
        "found with its own k, and the same for all other k",
        "![Figure 2](./figure2.svg)",
        figure_2(outcomes),
        chosen_otherwise(outcomes),
        "Table 6, accuracy against the cost of an image: the selection net and k base learners, "
        "or those that a rule asks of every image and no selection net; stacking's and the learned "
        "vote's matrices with it; a single network costs as much as a learner; means over the "
        "seeds. The Pareto front is e2e-CEL's over Figure 2's k, by its accuracy on the test "
        "split: a description, nothing is chosen by it. Its knee, if any, is the point farthest "
        "above the chord between its ends on a linear scale of the cost (Satopaa et al. 2011)",
        "![Pareto front](./pareto.svg)",
        cost_against_accuracy(outcomes),
    ]
    if sliced := slice_accuracy(outcomes):
        caption = "Table 7, accuracy by gender and by ethnicity, mean over the seeds"
        sections += [caption, sliced]
    if studies := [o.comparison.gradients for o in outcomes if o.comparison.gradients]:
        sections.append(gradient_table(studies))
    return sections


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
        "seeds": [_as_json(outcome) for outcome in outcomes],
        "cost": [asdict(point) for point in cost_points(outcomes)],
    }
    write_json(folder / "results.json", results)
    return text


def _as_json(outcome: SeedOutcome) -> dict[str, Any]:
    measures = asdict(outcome.comparison.measures)
    gradients, learned = outcome.comparison.gradients, outcome.comparison.learned_vote
    return {
        "results": dict(outcome.results),
        **measures,
        "curve": {str(k): dict(v) for k, v in outcome.comparison.curve.items()},
        "valid_curve": {str(k): v for k, v in outcome.comparison.valid_curve.items()},
        "multiply_adds": asdict(outcome.comparison.cost),
        "trained": {title: _facts(rule) for title, rule in outcome.comparison.trained.items()},
        "learned_vote": asdict(learned) if learned else None,
        "gradients": asdict(gradients) if gradients else None,
        "diverged": list(outcome.comparison.diverged),
        "seconds": dict(outcome.comparison.seconds),
    }


def _facts(rule: TrainedRule) -> dict[str, float]:
    return {name: value for name, value in vars(rule).items() if name != "probs_SC"}


def tracked(
    name: str, dataset: str, outcomes: Sequence[SeedOutcome], folder: Path, artifacts: Path
) -> TrackedReproduction:
    """What MLflow shows of it: means over the seeds.

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
        params={"seeds": seeds},
        metrics=metrics,
        curves=curves,
        files=sorted(path for path in folder.iterdir() if path.is_file()),
        artifacts=artifacts,
    )
