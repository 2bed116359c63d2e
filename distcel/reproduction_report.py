"""The report of a reproduction: the paper's tables and figures, and what a reviewer asks next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from distcel.consensus import RULE_TITLES
from distcel.gradient_table import gradient_table
from distcel.outcomes import SeedOutcome, mean_and_deviation
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
from distcel.trained_rules import FIRST_POINT
from distcel.types import Published

_OF_TRAINED_RULES = (
    f". {FIRST_POINT} is e2e-CEL at the first trial's point: the paper's k, its authors' epsilon "
    "and the paper's gradient, with all epochs. What is trained beside e2e-CEL has the selection "
    "net's recipe and, of e2e-CEL's lr and those at a quarter and three quarters of the range that "
    "its search had, the one that is best on valid"
)
_BEYOND = (
    ". The learned vote of few hears each learner through a matrix of its own, with k at most n/3, "
    "and has a search of its own of as many trials; soft gating is the mean of all n, weighted by "
    "the net's softmax; straight-through top-k has e2e-CEL's k. A single network has the selection "
    "net's architecture and classifies alone: the brief one sees as many samples as the selection "
    "net, the other, at the brief one's lr, as many as the whole ensemble, its schedule stretched; "
    "each counts after its best epoch on valid, e2e-CEL after its last"
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
        f"chosen is chosen on the valid split. {_sizes(first)}{left_out}{read_before(read)}"
        f"{note}".strip(),
        "Table 1, base learners (mean over the learners)",
        beside_paper(
            ["specialised", "complementary", "overall"],
            lambda name: [outcome.results[name] for outcome in outcomes],
            lambda name: getattr(published, name, None),
        ),
        "Table 2, smart ensemble and consensus rules. SL has one weight a learner; the paper does "
        "not say what its own has",
        beside_paper(
            list(_PAPER_RULES),
            lambda name: [outcome.comparison.measures.accuracy[name] for outcome in outcomes],
            lambda name: getattr(published, _PAPER_RULES[name], None),
        ),
        *filter(None, [_private_test(outcomes)]),
        "Table 3, best sub-ensemble. " + _searches(outcomes),
        best_points(outcomes, published),
        *_beyond_the_paper(outcomes),
        _times(outcomes),
        f"Seed {seeds[0]} was last launched on {first['machine']} and ended at {first['ended']}. "
        f"{versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _sizes(results: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{count} {name}" for name, count in results["n_samples"].items())
    return f"Samples: {sizes}. "


def _searches(outcomes: Sequence[SeedOutcome]) -> str:
    trials = ", ".join(str(outcome.results["n_trials"]) for outcome in outcomes)
    return (
        f"Trials of each seed's search: {trials}, the first at the paper's k, the others at random "
        "until ten are complete and then TPE's; ASHA may stop one after a third of its epochs, and "
        "the best one is trained for all of them"
    )


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
        f"the epochs that were lost to interruptions: {', '.join(parts)}."
    )


def _beyond_the_paper(outcomes: Sequence[SeedOutcome]) -> list[str]:
    trained = outcomes[0].comparison.trained
    settings = SETTINGS + (_OF_TRAINED_RULES if trained else "")
    settings += _BEYOND if set(trained) - {FIRST_POINT} else ""
    sections = [
        "Table 4, every rule: accuracy, expected calibration error (15 bins of the confidence in "
        "the chosen class), and how much better e2e-CEL, and the learned vote where it is there, "
        "are: the mean over the seeds and, seed by seed, the lead, in brackets the 95 % interval "
        "of the paired bootstrap, and the p of McNemar's test. Interval and p are about the test "
        "images alone, not about the training, and p is not corrected for the number of rules; "
        "seeds that share the images are no tests of their own. The confidence of e2e-CEL, SL and "
        "straight-through top-k is the softmax of summed votes (Eq. 11), which for k votes is at "
        "most e^k / (e^k + c - 1): a small k alone makes it too low. "
        f"{settings}",
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
        "above the chord between its ends on a linear scale of the cost (Satopaa et al. 2011). The "
        "last column is the same front of all the table's rows",
        "![Pareto front](./pareto.svg)",
        cost_against_accuracy(outcomes),
    ]
    if sliced := slice_accuracy(outcomes):
        caption = "Table 7, accuracy by gender and by ethnicity, mean over the seeds"
        sections += [caption, sliced]
    if studies := [o.comparison.gradients for o in outcomes if o.comparison.gradients]:
        sections.append(gradient_table(studies))
    return sections
