"""What the report of a reproduction says beside its tables: how things were done and chosen."""

from __future__ import annotations

from collections.abc import Sequence

from distcel.evaluate.outcomes import SeedOutcome
from distcel.report.markdown import bullets
from distcel.rules.registry import SETTINGS
from distcel.rules.trained import EQ_7

SUPER_LEARNER = (
    "SL is the softmax of the outputs' sum, weighted with one free number a learner; the paper "
    "does not say what its own is. RS asks as many learners as each seed's e2e-CEL, the paper's as "
    "many as its own."
)
_CALIBRATION = (
    "Calibration error: the expected one, of 15 bins of the confidence in the chosen class. What "
    "sums the outputs of k learners has the softmax of that sum (Eq. 11) for its confidence, at "
    "most e^k / (e^k + c - 1): a small k alone makes it too low. UA, RS and static and greedy "
    "selection give the mean of the outputs instead."
)
_EQ_7 = (
    f"{EQ_7} is e2e-CEL at the first trial's k, epsilon and m, with the paper's gradient: Eq. 7 "
    "with the 1/epsilon that it leaves out and a baseline that lowers its variance."
)
_BEYOND = (
    "The learned vote of few is the sum of the selected learners' log-probabilities, each through "
    "a matrix and a bias of its own, with k at most n/3; it has a search of its own of as many "
    "trials.",
    "Soft gating is the mean of all n, weighted by the net's softmax; straight-through top-k has "
    "e2e-CEL's k.",
    "A single network has the selection net's architecture and classifies alone: the brief one "
    "sees as many samples as the selection net, the other, at the brief one's learning rate, as "
    "many as the whole ensemble, its schedule stretched. Each counts after its best epoch on "
    "valid, e2e-CEL after its last.",
)
_LRS = (
    "All trained rules but the learned vote and the longer single network have the selection net's "
    "recipe and, of a few learning rates, the one that is best on valid: e2e-CEL's, for e2e-CEL by "
    "Eq. 7 the first trial's as well, and, where lr was searched, those at a quarter and three "
    "quarters of its range. e2e-CEL has more trials than these, but none at which only lr differs."
)
_SEEN = (
    "SL and stacking are fitted, as the selection net is, on predictions of the samples that the "
    "base learners were trained on; by their definition it would be others, as with "
    "`--selector-split crossfit`."
)
_HELD_OUT = (
    "What is fitted on valid has valid alone here too, though the learners have not seen the "
    "samples either that the selection net is trained on."
)
OF_LEADS = (
    "In brackets the 95 % interval of the paired bootstrap, then the p of McNemar's test. Both are "
    "about the test images alone, not about the training. p is not corrected for the number of "
    "rules, and seeds that share the images are no tests of their own."
)
OF_COST = bullets(
    [
        "Counted are the selection net, where a rule has one, and the base learners that it asks, "
        "with stacking's and the learned vote's matrices. A single network costs as much as a "
        "learner, nearest neighbours a multiply-add a pixel of each image kept.",
        "KNORA, META-DES and greedy selection are left out: they ask others of each image, or how "
        "many is kept nowhere.",
        "The front over k is e2e-CEL's Pareto front over Figure 2's k, by its accuracy on the test "
        "split: a description, nothing is chosen by it. Its knee, if any, is the point farthest "
        "above the chord between its ends on a linear scale of the cost (Satopaa et al. 2011). The "
        "last column is the same front of all the table's rows.",
    ]
)


def of_searches(outcomes: Sequence[SeedOutcome]) -> str:
    """How Table 3's points were searched."""
    trials = ", ".join(str(outcome.results["n_trials"]) for outcome in outcomes)
    first = outcomes[0].results["first"]
    point = ", ".join(f"{name} = {value}" for name, value in first.items())
    return (
        f"Trials of each seed's search: {trials}, the first at {point}, the others at random until "
        "ten are complete and then TPE's. ASHA may stop one after a third of its epochs, which "
        "then counts as it is, though more epochs might have made it the best; the best one is "
        "trained for all of them."
    )


def of_rules(outcomes: Sequence[SeedOutcome]) -> str:
    """What Table 4's rules are, of those that are there."""
    trained = outcomes[0].comparison.trained
    points = [_CALIBRATION, *SETTINGS]
    points += [_EQ_7] if EQ_7 in trained else []
    points += _BEYOND if set(trained) - {EQ_7} else ()
    points += [_LRS] if trained else []
    points.append(_SEEN if outcomes[0].results["selector_split"] == "train" else _HELD_OUT)
    return bullets(points)
