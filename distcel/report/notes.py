"""The notes below the tables of a document, once for all reproductions that it shows."""

from __future__ import annotations

from collections.abc import Sequence

from distcel.report.claims import CONSTANT
from distcel.report.frame import Results, comparisons, launches

_SEARCH = (
    "Search: the first trial's point is given under Table 3; the others are random until a few "
    "are complete, and from then on proposed from these. ASHA may stop one after a third of its "
    "epochs, which then counts as it is, though more epochs might have made it the best; the best "
    "one is trained for all of them."
)
_CALIBRATION = (
    "Calibration error: the expected one, of 15 bins of the confidence in the chosen class. What "
    "sums the outputs of k learners has the softmax of that sum (Eq. 11) for its confidence, at "
    "most e^k / (e^k + c - 1): a small k alone makes it too low. A rule that averages outputs "
    "has their mean instead."
)
_TEMPERED = (
    "Temperature: at each k the logits of e2e-CEL's vote are divided by the temperature that has "
    "the least negative log likelihood on valid (Guo et al. 2017), in the saved ensemble as well. "
    "No decision changes. Its calibration error in Table 4 is the one after that; no other rule "
    "has a temperature."
)
_GAIN = (
    "Gain from the learners: e2e-CEL minus its constant control. What e2e-CEL reaches without "
    "anything of the image in its learners' outputs is the selection net's own knowledge: it takes "
    "the learners that lean towards the class that it has recognised. Where the learners lean "
    "towards no class, each being right about nearly every image, their constants are all but "
    "equal, the control cannot tell what it knows, and the single network is the null model."
)
_NO_FLIP = (
    "Every rule predicts each image of valid and test once, as it is: none has a test-time flip."
)
_LRS = (
    "All trained rules but the learned vote, the longer single network and the shuffled control "
    "have the selection net's recipe and, of a few learning rates, the one that is best on valid: "
    "the smart ensemble's, for the rule by Eq. 7 the first trial's as well, and, where lr was "
    "searched, those at a quarter and three quarters of its range. The smart ensemble has more "
    "trials than these, but none at which only lr differs."
)
_SEEN = (
    "Selector split `train`: what is fitted on train is fitted, as the selection net is, on "
    "predictions of the samples that the base learners were trained on. By their definition the "
    "Super Learner and stacking would use others, as with `--selector-split crossfit`."
)
_HELD_OUT = (
    "Selector split `{}`: what is fitted on valid has valid alone here too, though the learners "
    "have not seen the samples either that the selection net is trained on."
)
_LEADS = (
    "Leads: by seed, in brackets the 95 % interval of the paired bootstrap, then the p of "
    "McNemar's test, by Holm's correction over all rules of the table. Both are about the test "
    "images alone, not about the training, and seeds that share the images are no tests of their "
    "own. Over the seeds, in brackets the 95 % t-interval, which is about training and the draw of "
    "valid on these test images; it is not corrected. *Above* or *below*: every seed's corrected p "
    "is below 0.05, with one sign, and the t-interval excludes 0. *Level*: not so, and two "
    "one-sided t-tests over the seeds say that the difference is less than one percentage point, "
    "p below 0.05 by Holm's correction. Otherwise the two are *not told apart*, which says nothing "
    "of how near they are."
)
_COST = (
    "Cost: multiply-adds of the selection net, where a rule has one, and of the base learners that "
    "it uses, with their matrices. Left out are rules whose number of learners varies by image or "
    "is not recorded. The front over k is the Pareto front over Figure 2's k, by accuracy "
    "on the test split: a description, nothing is chosen by it. Its knee, if any, is the point "
    "farthest above the chord between its ends on a linear scale of the cost (Satopaa et al. "
    "2011). The last column is the same front of all the table's rows."
)
_GRADIENTS = (
    "Gradients: the search found k, epsilon and lr with that trial's own gradient. Where k is n, "
    "all gradients are zero. `paper` is Eq. 7 with the 1/epsilon that it leaves out and a baseline "
    "that lowers its variance. *Same time*: on valid after the last epoch that ended within the "
    "time that the fastest gradient of the seed took for all its epochs, whatever else ran on the "
    "machine. An epoch's time includes measuring the valid split, and a schedule of the lr spans "
    "all epochs, so that a slow gradient is read while its lr is high. A number in brackets: of so "
    "many seeds only, the others having diverged or ended no epoch in time; a dash: of none."
)


_ANY_K = (
    "k: one selection net is trained for every k, and the k that is best on valid is chosen; "
    "Figure 2 shows that net at each k. Rules with the smart ensemble's k, and the gradients, have "
    "a net for the chosen k alone."
)


def of_precision(found: Sequence[Results]) -> str:
    """A sentence about what was trained in bfloat16; empty if nothing was or none is recorded."""
    precisions = [launch.get("precision", {}) for launch in found]
    lower = [name for name, value in precisions[0].items() if value == "bfloat16"]
    if any(precision != precisions[0] for precision in precisions):
        return "The seeds were not all trained in the same precision. "
    if not lower:
        return ""
    named = " and ".join(name.replace("_", " ") for name in lower)
    return f"Trained in bfloat16, measured in float32: {named}. "


def of_reproductions(shown: Sequence[Results]) -> list[str]:
    """Sentences that explain the rules of these reproductions, and how they were measured."""
    found = [comparison for results in shown for comparison in comparisons(results)]
    rules = {key: rule for comparison in found for key, rule in comparison["rules"].items()}
    splits = dict.fromkeys(launch["selector_split"] for r in shown for launch in launches(r))
    points = [f"{rule['title']}: {rule['about']}." for rule in rules.values()]
    points += [_SEARCH, _CALIBRATION]
    if any("calibration" in point for comparison in found for point in comparison["over_k"]):
        points += [_TEMPERED, _NO_FLIP]
    if CONSTANT in rules:
        points.append(_GAIN)
    if any(launch.get("valid_accuracy_over_k") for r in shown for launch in launches(r)):
        points.append(_ANY_K)
    if any("training" in rule for rule in rules.values()):
        points.append(_LRS)
    points += [_SEEN if split == "train" else _HELD_OUT.format(split) for split in splits]
    points += [_LEADS, _COST]
    if any(comparison["gradients"] for comparison in found):
        points.append(_GRADIENTS)
    return points
