"""What is measured of every rule on the test split, from its class probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.evaluate.significance import Difference, difference
from distcel.rules.consensus import RULE_TITLES, Draws, right
from distcel.train.cache import CachedSplit

Groups = Mapping[str, NDArray[np.bool_]]  # by name, whether a sample belongs to it, (S,)

SMART, ORACLE, LEARNERS = RULE_TITLES["e2e_cel"], "oracle", "mean base learner"
BINS = 15  # of confidence


@dataclass(frozen=True)
class Measures:
    """Of every rule by its title, as fractions; the mean over the draws where it has several.

    The oracle (at least one base learner is right) and the mean base learner are there as well.

    Attributes:
        accuracy: over all samples.
        calibration_error: the expected one; the oracle has none.
        class_accuracy: by class: the share of its samples that are found (recall).
        class_sizes: how many samples each class has.
        slice_accuracy: by slice of the data set.
        slice_sizes: how many samples each slice has.
        against: by leader, it minus each other rule of one draw.
    """

    accuracy: Mapping[str, float]
    calibration_error: Mapping[str, float]
    class_accuracy: Mapping[str, Mapping[str, float]]
    class_sizes: Mapping[str, int]
    slice_accuracy: Mapping[str, Mapping[str, float]]
    slice_sizes: Mapping[str, int]
    against: Mapping[str, Mapping[str, Difference]]


def measure(
    said: Mapping[str, Draws],
    test: CachedSplit,
    class_names: tuple[str, ...],
    slices: Groups,
    leaders: Sequence[str] = (SMART,),
) -> Measures:
    """Measure every rule.

    Args:
        said: the rules' class probabilities on `test`, by title.
        test: the samples.
        class_names: of the C classes.
        slices: of the samples.
        leaders: rules, of one draw each, that are compared with all others.
    """
    labels_S = test.labels_S
    rights = {title: right(draws, labels_S) for title, draws in said.items()}
    against = {
        leader: {
            title: difference(rights[leader][0], rights[title][0])
            for title, draws in said.items()
            if title != leader and len(draws) == 1
        }
        for leader in leaders
    }
    learners = test.probs_SNC.transpose(1, 0, 2)  # as if they were draws
    learners_right = right(learners, labels_S)
    rights |= {ORACLE: np.asarray(learners_right.any(0))[None], LEARNERS: learners_right}
    classes = {name: labels_S == c for c, name in enumerate(class_names)}
    return Measures(
        {title: float(hits.mean()) for title, hits in rights.items()},
        {t: _calibration_error(d, labels_S) for t, d in {**said, LEARNERS: learners}.items()},
        {title: accuracy_by_group(hits, classes) for title, hits in rights.items()},
        {name: int(inside_S.sum()) for name, inside_S in classes.items()},
        {title: accuracy_by_group(hits, slices) for title, hits in rights.items()},
        {name: int(inside_S.sum()) for name, inside_S in slices.items()},
        against,
    )


def accuracy_by_group(right: NDArray[np.bool_], groups: Groups) -> dict[str, float]:
    """The share that is right, of shape (draws, S), within each group that has any sample."""
    return {n: float(right[:, inside_S].mean()) for n, inside_S in groups.items() if inside_S.any()}


def _calibration_error(said: Draws, labels_S: NDArray[np.int64]) -> float:
    return float(np.mean([expected_calibration_error(probs_SC, labels_S) for probs_SC in said]))


def expected_calibration_error(
    probs_SC: NDArray[np.floating[Any]], labels_S: NDArray[np.int64]
) -> float:
    """Mean gap between accuracy and confidence over the bins, as a fraction (Guo et al. 2017).

    Confidence is the probability of the most probable class; it falls into one of 15 bins of equal
    width, each with its upper end, and a bin weighs as much as the share of samples in it.
    """
    confidence_S, right_S = probs_SC.max(1), probs_SC.argmax(1) == labels_S
    # Shares of votes lie on the bins' edges, lifted by a tie-break or rounded.
    bin_S = np.clip(np.ceil(confidence_S * BINS - 1e-4).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bin_S, weights=right_S - confidence_S)
    return float(np.abs(gaps).sum() / len(labels_S))
