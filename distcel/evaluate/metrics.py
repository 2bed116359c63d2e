"""Metrics of every rule on the test split, from its class probabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.data.splits import Split
from distcel.rules.registry import MEAN_LEARNER, ORACLE
from distcel.rules.rule import ProbsDSC, correct

Groups = Mapping[str, NDArray[np.bool_]]  # by name, whether each sample belongs to it, (S,)

BINS = 15  # number of bins of the confidence
_RESAMPLES, _SEED = 10_000, 0
_GENDERS = ("male", "female")
_ETHNICITIES = ("White", "Black", "Asian", "Indian", "Others")  # UTKFace's own terms
_UTKFACE_NAME = re.compile(r"\d{1,3}_([01])_([0-4])_\d")


def measure(
    probs: Mapping[str, ProbsDSC],
    test: Split,
    class_names: tuple[str, ...],
    slices: Groups,
    leaders: Sequence[str],
) -> dict[str, Any]:
    """Measure every rule, the oracle and the mean base learner.

    Args:
        probs: the rules' class probabilities on `test`, by key.
        test: the samples.
        class_names: the names of the C classes.
        slices: the slices of the samples.
        leaders: keys of rules with one draw each that are compared with all others.

    Returns:
        dict: `rules`: by key, as fractions and as the mean over the draws, `accuracy`,
        `calibration_error` (the oracle has none), `class_accuracy` (recall) and `slice_accuracy`;
        `class_sizes` and `slice_sizes`: how many samples each has; `against`: by leader, it minus
        each other rule of one draw, as `difference` gives it.
    """
    labels_S = test.labels_S
    hits = {key: correct(draws, labels_S) for key, draws in probs.items()}
    against = {
        leader: {
            key: difference(hits[leader][0], hits[key][0])
            for key, draws in probs.items()
            if key != leader and len(draws) == 1
        }
        for leader in leaders
    }
    learners = test.probs_SNC.transpose(1, 0, 2)  # as if they were draws
    learners_correct = correct(learners, labels_S)
    hits[ORACLE.key] = np.asarray(learners_correct.any(0))[None]
    hits[MEAN_LEARNER.key] = learners_correct
    errors = {
        key: mean_calibration_error(draws, labels_S)
        for key, draws in {**probs, MEAN_LEARNER.key: learners}.items()
    }
    classes = {name: labels_S == c for c, name in enumerate(class_names)}
    rules = {
        key: {
            "accuracy": float(correct_DS.mean()),
            **({"calibration_error": errors[key]} if key in errors else {}),
            "class_accuracy": accuracy_by_group(correct_DS, classes),
            "slice_accuracy": accuracy_by_group(correct_DS, slices),
        }
        for key, correct_DS in hits.items()
    }
    sizes = [{name: int(inside_S.sum()) for name, inside_S in g.items()} for g in (classes, slices)]
    return {
        "rules": rules,
        "class_sizes": sizes[0],
        "slice_sizes": sizes[1],
        "against": against,
    }


def accuracy_by_group(correct_DS: NDArray[np.bool_], groups: Groups) -> dict[str, float]:
    """The fraction that is correct in each group that has samples."""
    return {
        name: float(correct_DS[:, inside_S].mean())
        for name, inside_S in groups.items()
        if inside_S.any()
    }


def mean_calibration_error(probs_DSC: ProbsDSC, labels_S: NDArray[np.int64]) -> float:
    """The expected calibration error, as the mean over the draws."""
    return float(np.mean([expected_calibration_error(probs, labels_S) for probs in probs_DSC]))


def expected_calibration_error(
    probs_SC: NDArray[np.floating[Any]], labels_S: NDArray[np.int64]
) -> float:
    """Mean gap between accuracy and confidence over the bins, as a fraction (Guo et al. 2017).

    Confidence is the probability of the most probable class; it falls into one of 15 bins of equal
    width, each including its upper end. A bin's weight is the share of the samples in it.
    """
    confidence_S, correct_S = probs_SC.max(1), probs_SC.argmax(1) == labels_S
    gaps = np.bincount(bin_of(confidence_S), weights=correct_S - confidence_S)
    return float(np.abs(gaps).sum() / len(labels_S))


def bin_of(confidence_S: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """The number, from 0, of the bin that each confidence falls into."""
    # Shares of votes lie on the bins' edges, lifted by a tie-break or rounded.
    bin_S: NDArray[np.int64] = np.ceil(confidence_S * BINS - 1e-4).astype(np.int64) - 1
    return bin_S.clip(0, BINS - 1)


def difference(
    correct_S: NDArray[np.bool_], other_correct_S: NDArray[np.bool_]
) -> dict[str, float]:
    """Compare two rules by which samples each classifies correctly.

    Returns:
        dict: `mean`: the first one's accuracy minus the second one's, as a fraction; `low` and
        `high`: the 95 % percentile interval of the paired bootstrap; `p`: the p-value of McNemar's
        exact test, that is, the probability of at least so uneven counts of samples that only one
        of the rules has correct, if both are equally accurate.
    """
    from scipy.stats import binomtest

    n_samples = len(correct_S)
    only_first = int((correct_S & ~other_correct_S).sum())
    only_second = int((other_correct_S & ~correct_S).sum())
    # A resample is a draw of how many samples only the first, and only the second, has correct.
    shares = np.array([only_first, only_second, n_samples - only_first - only_second]) / n_samples
    draws = np.random.default_rng(_SEED).multinomial(n_samples, shares, _RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n_samples, (0.025, 0.975))
    discordant = only_first + only_second
    p = binomtest(only_first, discordant).pvalue if discordant else 1.0
    mean = (only_first - only_second) / n_samples
    return {"mean": mean, "low": float(low), "high": float(high), "p": float(p)}


def slices(dataset: str, sample_ids: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Whether each sample belongs to each slice of the data set, (S,), by the slice's name.

    Only UTKFace has slices, by gender and by ethnicity, from its file names `age_gender_race_date`.
    A name that lacks a field belongs to no slice, as it is unknown which field it lacks.
    """
    if dataset != "utkface":
        return {}
    fields = [match and match.groups() for match in map(_UTKFACE_NAME.match, sample_ids)]
    return {
        name: np.array([found is not None and found[i] == str(code) for found in fields], bool)
        for i, names in enumerate((_GENDERS, _ETHNICITIES))
        for code, name in enumerate(names)
    }
