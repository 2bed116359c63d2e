"""The report of a reproduction: the paper's tables and figures, and what a reviewer asks next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from distcel.consensus import RULE_TITLES
from distcel.gradient_table import gradient_table
from distcel.outcomes import SeedOutcome, mean_and_deviation
from distcel.report import duplicates, read_before
from distcel.rules import CHOSEN_ON_VALID, SETTINGS
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
from distcel.trained_rules import EQ_7
from distcel.types import Published

_EQ_7 = (
    f". {EQ_7} is e2e-CEL at the first trial's k, epsilon and m, with the paper's gradient (Eq. 7 "
    "with the 1/epsilon that it leaves out and a baseline that lowers its variance) and that "
    "trial's learning rate among those below"
)
_BEYOND = (
    ". The learned vote of few hears each learner through a matrix of its own, with k at most n/3, "
    "and has a search of its own of as many trials; soft gating is the mean of all n, weighted by "
    "the net's softmax; straight-through top-k has e2e-CEL's k. A single network has the selection "
    "net's architecture and classifies alone: the brief one sees as many samples as the selection "
    "net, the other, at the brief one's learning rate, as many as the whole ensemble, its schedule "
    "stretched; each counts after its best epoch on valid, e2e-CEL after its last"
)
_LRS = (
    ". All of these but the learned vote have the selection net's recipe and, of a few learning "
    "rates, the one that is best on valid: e2e-CEL's and, where lr was searched, those at a "
    "quarter and three quarters of its range. Learning rates, seed by seed: "
)
_HELD_OUT = (
    ". What is fitted on valid has valid alone here too, though the learners have not seen the "
    "samples either that the selection net is trained on"
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
        f"{versions}; commit {' and '.join(commits)}.",
    ]
    return "\n\n".join(sections) + "\n"


def _sizes(outcomes: Sequence[SeedOutcome]) -> str:
    """One number where all seeds have the same: which duplicates are left out is by seed."""
    sizes = [outcome.results["n_samples"] for outcome in outcomes]
    counts = {name: dict.fromkeys(str(of_seed[name]) for of_seed in sizes) for name in sizes[0]}
    named = [f"{' or '.join(of_seeds)} {name}" for name, of_seeds in counts.items()]
    return f"Samples: {', '.join(named)}. "


def _searches(outcomes: Sequence[SeedOutcome]) -> str:
    trials = ", ".join(str(outcome.results["n_trials"]) for outcome in outcomes)
    first = outcomes[0].results["first"]
    point = ", ".join(f"{name} = {value}" for name, value in first.items())
    return (
        f"Trials of each seed's search: {trials}, the first at {point}, the others at random until "
        "ten are complete and then TPE's; ASHA may stop one after a third of its epochs, and the "
        "best one is trained for all of them"
    )


def _lrs(outcomes: Sequence[SeedOutcome]) -> str:
    """What each trained rule has in each seed; `-` where it diverged."""
    trained = [outcome.comparison.trained for outcome in outcomes]
    titles = dict.fromkeys(title for of_seed in trained for title in of_seed)
    lrs = {
        title: [f"{of_seed[title].lr:.3g}" if title in of_seed else "-" for of_seed in trained]
        for title in titles
    }
    return "; ".join(f"{title} {', '.join(chosen)}" for title, chosen in lrs.items())


def _settings(outcomes: Sequence[SeedOutcome]) -> str:
    """What rules chose on valid in each seed, as a sentence; empty if none did."""
    by_seed = [outcome.comparison.settings for outcome in outcomes]
    chosen = [
        f"{title} ({CHOSEN_ON_VALID[title].replace('_', ' ')}) "
        f"{', '.join(f'{of_seed[title]:g}' for of_seed in by_seed)}"
        for title in by_seed[0]
    ]
    return f". Chosen on valid, seed by seed: {'; '.join(chosen)}" if chosen else ""


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
    trained = outcomes[0].comparison.trained
    settings = SETTINGS + (_EQ_7 if EQ_7 in trained else "")
    settings += _BEYOND if set(trained) - {EQ_7} else ""
    settings += _LRS + _lrs(outcomes) if trained else ""
    settings += _settings(outcomes)
    if outcomes[0].results["selector_split"] != "train":
        settings += _HELD_OUT
    sections = [
        "Table 4, every rule: accuracy, expected calibration error (15 bins of the confidence in "
        "the chosen class), and how much better e2e-CEL, and the learned vote where it is there, "
        "are: the mean over the seeds and, seed by seed, the lead, in brackets the 95 % interval "
        "of the paired bootstrap, and the p of McNemar's test. Interval and p are about the test "
        "images alone, not about the training, and p is not corrected for the number of rules; "
        "seeds that share the images are no tests of their own. The confidence of what sums "
        "the outputs of k learners is the softmax of that sum (Eq. 11), at most "
        "e^k / (e^k + c - 1): a small k alone makes it too low. UA, RS and static and greedy "
        "selection give the mean of the outputs instead. "
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
        "Table 6, accuracy against the cost of an image: the selection net, where a rule has one, "
        "and the base learners that it asks; stacking's and the learned vote's matrices with it; a "
        "single network costs as much as a learner, nearest neighbours a multiply-add a pixel of "
        "each image kept; means over the seeds. KNORA, META-DES and greedy selection are left out: "
        "they ask others of each image, or how many is kept nowhere. The Pareto front is "
        "e2e-CEL's over Figure 2's k, by its accuracy on the test split: a description, nothing is "
        "chosen by it. Its knee, if any, is the point farthest above the chord between its ends on "
        "a linear scale of the cost (Satopaa et al. 2011). The last column is the same front of "
        "all the table's rows",
        "![Pareto front](./pareto.svg)",
        cost_against_accuracy(outcomes),
    ]
    if sliced := slice_accuracy(outcomes):
        caption = "Table 7, accuracy by gender and by ethnicity, mean over the seeds"
        sections += [caption, sliced]
    if studies := [o.comparison.gradients for o in outcomes if o.comparison.gradients]:
        sections.append(gradient_table(studies))
    return sections
