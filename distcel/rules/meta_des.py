"""META-DES by the library DESlib, an optional extra: `pip install 'distcel[deslib]'`.

This module can be imported only where DESlib is installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from deslib.des.meta_des import METADES
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.neighbors import NearestNeighbors

from distcel.data.splits import Split
from distcel.rules.rule import Features, FittedRule

# A sample is one row for DESlib: the N x C outputs of all learners, followed by its features.
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class MetaDES:
    """A naive Bayes classifier selects the learners for each sample (Cruz et al. 2015).

    It estimates the competence of each learner from its predictions of the `count` nearest samples
    by features, from those of the `n_profiles` samples with the most similar outputs of all
    learners, and from its confidence. The vote is the mean softmax output of the learners with a
    competence above 1/2, or of all learners if none has. In their paper each selected learner votes
    for one class.
    """

    features: Features
    count: int = 7
    n_profiles: int = 5

    def fit(self, fitted: Split) -> FittedRule:
        """Train the meta-classifier; the samples must have every class."""
        _, n_learners, n_classes = fitted.probs_SNC.shape
        model = METADES(
            CachedPool(n_learners, n_classes),
            k=min(self.count, len(fitted.labels_S)),
            Kp=min(self.n_profiles, len(fitted.labels_S)),
            knn_classifier=partial(NearestByFeatures, n_learners * n_classes),
            voting="soft",
            random_state=0,
        )
        # DESlib 0.3.7 calls a method that scikit-learn 1.7 removed (DESlib's issue 284).
        model._validate_data = lambda rows, labels, **_: (rows, labels)
        model.fit(self._rows(fitted), fitted.labels_S)
        return lambda split: torch.from_numpy(model.predict_proba(self._rows(split)))

    def _rows(self, split: Split) -> Rows:
        return np.hstack([split.probs_SNC.reshape(len(split.labels_S), -1), self.features(split)])


class CachedPool(list[Any]):
    """A list of cached learners; `estimators_features_` has the columns of each."""

    def __init__(self, n_learners: int, n_classes: int) -> None:
        super().__init__(CachedLearner(n_classes) for _ in range(n_learners))
        columns = np.arange(n_learners * n_classes)
        self.estimators_features_ = columns.reshape(n_learners, n_classes)


class CachedLearner(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A base learner whose input is its own output."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, rows: Rows, labels: NDArray[np.int64]) -> CachedLearner:
        """Return itself: the outputs are known."""
        return self

    def predict_proba(self, probs_SC: Rows) -> Rows:
        """Its own columns, shape (S, C)."""
        return probs_SC

    def predict(self, probs_SC: Rows) -> NDArray[np.intp]:
        """The most probable class of each row."""
        classes_S: NDArray[np.intp] = probs_SC.argmax(1)
        return classes_S


class NearestByFeatures:
    """Finds the nearest rows by their features, and the nearest output profiles by all outputs."""

    def __init__(self, n_outputs: int, n_neighbors: int) -> None:
        self.n_outputs, self.n_neighbors = n_outputs, n_neighbors

    def _features(self, rows: Rows) -> Rows:
        return rows[:, self.n_outputs :] if rows.shape[1] > self.n_outputs else rows

    def fit(self, rows: Rows, labels: NDArray[np.int64]) -> None:
        """Store the rows."""
        self.finder = NearestNeighbors(algorithm="brute").fit(self._features(rows))

    def kneighbors(self, rows: Rows, n_neighbors: int, return_distance: bool) -> Any:
        """As scikit-learn's finder of neighbours."""
        return self.finder.kneighbors(self._features(rows), n_neighbors, return_distance)
