"""The report of a reproduction: the paper's tables and figures, and what a reviewer asks next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from distcel.evaluate.outcomes import SeedOutcome, mean_and_deviation
from distcel.experiment.types import Published
from distcel.report.gradient_table import gradient_table
from distcel.report.launch import duplicates, read_before
from distcel.report.notes import OF_COST, OF_LEADS, SUPER_LEARNER, of_rules, of_searches
from distcel.report.seed_tables import (
    beside_paper,
    best_points,
    chosen_on_valid,
    chosen_otherwise,
    class_accuracy,
    cost_against_accuracy,
    diverged,
    every_rule,
    figure_2,
    leaders,
    leads_by_seed,
    slice_accuracy,
)
from distcel.rules.consensus import RULE_TITLES

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
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = dict.fromkeys(str(outcome.results["commit"] or "unknown") for outcome in outcomes)
    sections = [
        f"`{command}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        f"chosen is chosen on the valid split. {_sizes(outcomes)}{left_out}{read_before(read)}"
        f"{note}".strip(),
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
        SUPER_LEARNER,
        *filter(None, [_private_test(outcomes)]),
        "Table 3, best sub-ensemble",
        best_points(outcomes, published),
        of_searches(outcomes),
        *_beyond_the_paper(outcomes),
        _times(outcomes),
        f"Seed {seeds[0]} was last launched on {first['machine']} and ended at {first['ended']}. "
        f"{versions}; commit {' and '.join(commits)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _sizes(outcomes: Sequence[SeedOutcome]) -> str:
    """One number where all seeds have the same: which duplicates are left out is by seed."""
    sizes = [outcome.results["n_samples"] for outcome in outcomes]
    counts = {name: dict.fromkeys(str(of_seed[name]) for of_seed in sizes) for name in sizes[0]}
    named = [f"{' or '.join(of_seeds)} {name}" for name, of_seeds in counts.items()]
    return f"Samples: {', '.join(named)}. "


def _private_test(outcomes: Sequence[SeedOutcome]) -> str:
    """FER2013's, as a sentence; empty for any other data set."""
    private = [outcome.results["private_test_accuracy"] for outcome in outcomes]
    if not all(private):
        return ""
    named = [
        f"{title} {mean_and_deviation([of_seed[name] for of_seed in private])}"
        for title, name in _PAPER_RULES.items()
    ]
    return f"On PrivateTest alone: {', '.join(named)}."


def _times(outcomes: Sequence[SeedOutcome]) -> str:
    """What all trainings took, whichever launch they ran in."""
    total: Counter[str] = Counter()
    for outcome in outcomes:
        total.update(outcome.results["seconds"])
        total.update(outcome.comparison.seconds)
    parts = [f"{what.replace('_', ' ')} {s / 60:.1f}" for what, s in total.items() if s]
    return (
        f"The trainings of all seeds took {total.total() / 60:.1f} minutes of one worker, without "
        f"the epochs that were lost to interruptions or diverged: {', '.join(parts)}."
    )


def _beyond_the_paper(outcomes: Sequence[SeedOutcome]) -> list[str]:
    leading = leaders(outcomes)
    sections = [
        f"Table 4, every rule, with the lead over it of {' and of '.join(leading)}: mean over the "
        "seeds",
        every_rule(outcomes),
        of_rules(outcomes),
        *filter(None, [diverged(outcomes)]),
    ]
    for part, leader in zip("ab" if len(leading) > 1 else [""], leading, strict=True):
        caption = f"Table 5{part}, the lead of {leader} over each rule, seed by seed"
        sections += [caption, leads_by_seed(outcomes, leader)]
    sections.append(OF_LEADS)
    if chosen := chosen_on_valid(outcomes):
        sections += ["Table 6, what was chosen on valid, seed by seed", chosen]
    sections += [
        "Table 7, accuracy by class (recall), mean over the seeds",
        class_accuracy(outcomes),
        "Figure 2, accuracy over k",
        "![Figure 2](./figure2.svg)",
        figure_2(outcomes),
        "Epsilon, m, lr and gradient are those that each seed's search found with its own k, and "
        f"the same for all other k. {chosen_otherwise(outcomes)}",
        "Table 8, accuracy against the cost of an image, means over the seeds",
        "![Pareto front](./pareto.svg)",
        cost_against_accuracy(outcomes),
        OF_COST,
    ]
    if sliced := slice_accuracy(outcomes):
        caption = "Table 9, accuracy by gender and by ethnicity, mean over the seeds"
        sections += [caption, sliced]
    if studies := [o.comparison.gradients for o in outcomes if o.comparison.gradients]:
        sections.append(gradient_table(studies))
    return sections
