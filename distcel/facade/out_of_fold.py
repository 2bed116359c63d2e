"""What classifiers answer to samples that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing


def probabilities(fitted: Any, X: Any, classes_C: NDArray[Any]) -> NDArray[np.float64]:
    """A classifier's class probabilities (B, C), in the order of `classes_C`.

    They are 0 for a class that it does not know. One without `predict_proba` counts as certain of
    what it predicts.
    """
    own_K = np.searchsorted(classes_C, fitted.classes_)
    if hasattr(fitted, "predict_proba"):
        probs_BK = np.asarray(fitted.predict_proba(X))
    else:
        probs_BK = fitted.predict(X)[:, None] == np.asarray(fitted.classes_)
    probs_BC = np.zeros((len(probs_BK), len(classes_C)))
    probs_BC[:, own_K] = probs_BK
    return probs_BC


def out_of_fold(
    classifiers: Sequence[Any], X: Any, y: Any, cv: Any, classes_C: NDArray[Any]
) -> NDArray[np.float32]:
    """The probabilities that each classifier gives where it was not fitted, shape (S, N, C).

    Args:
        classifiers: the N classifiers, of which copies are fitted.
        X: the samples.
        y: their labels.
        cv: as `sklearn.model_selection.check_cv` takes it; a number of folds is lowered to the
            number of samples of the smallest class, but for 2.
        classes_C: the labels in the order of the probabilities.
    """
    if isinstance(cv, int):
        cv = max(2, min(cv, int(np.unique(y, return_counts=True)[1].min())))
    probs_SNC = np.zeros((len(y), len(classifiers), len(classes_C)), np.float32)
    for train, test in check_cv(cv, y, classifier=True).split(X, y):
        fitted_on = _safe_indexing(X, train), _safe_indexing(y, train)
        for i, one in enumerate(classifiers):
            fitted = clone(one).fit(*fitted_on)
            probs_SNC[test, i] = probabilities(fitted, _safe_indexing(X, test), classes_C)
    return probs_SNC
