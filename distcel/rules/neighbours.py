"""Consensus rules that use the nearest samples of the split they are fitted on.

The distance is the Euclidean one between the features of the images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distcel.data.splits import Split
from distcel.rules.consensus import vote_shares
from distcel.rules.rule import Features, FittedRule

_BLOCK = 1000  # number of samples whose distances are in memory at once


def _nearest(fitted: Split, count: int, features: Features) -> Callable[[Split], NDArray[np.int64]]:
    """A function that finds the indices of the nearest fitted samples, (S, count), nearest first.

    If there are fewer fitted samples than `count`, it returns all of them.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(fitted.labels_S))
    finder = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(features(fitted))

    def find(split: Split) -> NDArray[np.int64]:
        rows = features(split)
        blocks = (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))
        return np.concatenate([finder.kneighbors(block, return_distance=False) for block in blocks])

    return find


def pixels(split: Split) -> NDArray[np.float32]:
    """The images' pixels from 0 to 1, shape (S, channels x height x width)."""
    rows = split.images_SCHW.reshape(len(split.labels_S), -1)
    return np.divide(rows, 255, dtype=np.float32)


@dataclass(frozen=True)
class NearestNeighbours:
    """The share of each class among the nearest samples by pixels; no base learner is used."""

    count: int = 7

    def fit(self, fitted: Split) -> FittedRule:
        """Store the images; ties go to the class of a nearer sample."""
        find, n_classes = _nearest(fitted, self.count, pixels), fitted.probs_SNC.shape[2]

        def vote(split: Split) -> Tensor:
            classes_SK = fitted.labels_S[find(split)]
            weights_K = 1 + 1e-3 * np.arange(classes_SK.shape[1])[::-1]
            is_class_SKC = classes_SK[:, :, None] == np.arange(n_classes)
            winners_S = np.einsum("skc,k->sc", is_class_SKC, weights_K).argmax(1)
            return vote_shares(is_class_SKC.sum(1), winners_S)

        return vote


@dataclass(frozen=True)
class KnoraUnion:
    """A learner votes once for each nearest sample that it has correct (Ko et al. 2008)."""

    features: Features
    count: int = 7

    def fit(self, fitted: Split) -> FittedRule:
        """Store which learners classify which samples correctly."""
        find_correct = _correct_of_nearest(fitted, self.count, self.features)
        return lambda split: _plurality(split, find_correct(split).sum(1))


@dataclass(frozen=True)
class KnoraEliminate:
    """The learners that classify all nearest samples correctly vote (Ko et al. 2008).

    While there is no such learner, the farthest sample is left out; with no sample left, all
    learners vote.
    """

    features: Features
    count: int = 7

    def fit(self, fitted: Split) -> FittedRule:
        """Store which learners classify which samples correctly."""
        find_correct = _correct_of_nearest(fitted, self.count, self.features)

        def vote(split: Split) -> Tensor:
            unbroken_SN = np.logical_and.accumulate(find_correct(split), axis=1).sum(1)
            return _plurality(split, unbroken_SN == unbroken_SN.max(1, keepdims=True))

        return vote


def _correct_of_nearest(
    fitted: Split, count: int, features: Features
) -> Callable[[Split], NDArray[np.bool_]]:
    """A function that finds which learners have the nearest samples correct, (S, count, N)."""
    correct_SN = fitted.learners_correct
    find = _nearest(fitted, count, features)
    return lambda split: correct_SN[find(split)]


def _plurality(split: Split, votes_SN: NDArray[np.generic]) -> Tensor:
    """The shares of the votes, where each learner votes for the class that it ranks first.

    Args:
        split: the samples.
        votes_SN: number of votes of each learner, (S, N); if all are 0, each learner has one.
    """
    votes_SN = votes_SN.astype(np.float64)
    votes_SN[votes_SN.sum(1) == 0] = 1
    choices_SN, n_classes = split.probs_SNC.argmax(-1), split.probs_SNC.shape[2]
    counts_SC = np.stack([(votes_SN * (choices_SN == c)).sum(1) for c in range(n_classes)], axis=1)
    # The voters' mean softmax output decides between equal counts only.
    weights_SN = votes_SN / votes_SN.sum(1, keepdims=True)
    means_SC = np.einsum("snc,sn->sc", split.probs_SNC, weights_SN)
    return vote_shares(counts_SC, (counts_SC + means_SC / 2).argmax(1))
