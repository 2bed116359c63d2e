"""The selection among given classifiers as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from distcel.experiment.errors import require, require_count
from distcel.experiment.prices import Prices
from distcel.experiment.types import AnyK
from distcel.facade.out_of_fold import out_of_fold, probabilities

# Standardised numbers beyond this are clipped: one outlier should not decide whom to ask.
_FARTHEST = 10.0


class SmartSelector(ClassifierMixin, _BaseComposition):  # type: ignore[misc]
    """Learns for each sample which k of n classifiers predict it, and combines their outputs.

    A selection net, a small MLP on the standardised features, scores the classifiers; those with
    the k best scores are asked, and the softmax of the sum of their class probabilities is the
    prediction (Kotary, Di Vito, Fioretto, IJCAI 2023). Where there are prices, predictors that are
    always asked, or a budget, at most k are asked, each only where it is worth its price, and a
    learned vote combines them.

    Args:
        estimators: pairs of a name and a classifier. One without `predict_proba` counts as certain
            of what it predicts.
        k: the number of classifiers that are asked for a sample, with prices at most and beside
            those that are always asked; `any` has it chosen on the inner valid part.
        prices: the price of each classifier's answer, by its name; None is 1 for each, where
            `always` or `budget` is given.
        always: names of classifiers that are asked for every sample; the net sees their answers.
        budget: the highest mean price of a sample of those it is fitted on; None sets no limit.
        cv: folds of the out-of-fold predictions, as `sklearn.model_selection.check_cv` takes them.
        prefit: whether the classifiers are fitted. They are then used as they are, and `fit` wants
            samples that they have not seen.
        steps: the number of batches that the selection net is trained on, to the nearest epoch.
        random_state: seeds the selection net and its inner valid part; the classifiers have their
            own.

    Attributes:
        classes_: the C labels.
        estimators_: the fitted classifiers.
        named_estimators_: the same by name.
        k_: the number of classifiers that are asked for a sample, at most.
        n_features_in_: the number of features.
    """

    def __init__(
        self,
        estimators: Sequence[tuple[str, Any]],
        *,
        k: int | AnyK = 3,
        prices: Mapping[str, float] | None = None,
        always: Sequence[str] = (),
        budget: float | None = None,
        cv: Any = 5,
        prefit: bool = False,
        steps: int = 300,
        random_state: Any = None,
    ) -> None:
        self.estimators, self.k = estimators, k
        self.prices, self.always, self.budget = prices, always, budget
        self.cv, self.prefit, self.steps, self.random_state = cv, prefit, steps, random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters; with `deep` those of the classifiers too, as `name__parameter`."""
        params: dict[str, Any] = self._get_params("estimators", deep=deep)
        return params

    def set_params(self, **params: Any) -> SmartSelector:
        """Set parameters; a classifier by its name, its own as `name__parameter`."""
        self._set_params("estimators", **params)
        return self

    def fit(self, X: Any, y: Any, predictions: Any = None) -> SmartSelector:
        """Fit the classifiers, unless `prefit`, and the selection net.

        Args:
            X: numbers, shape (S, F). Classifiers get a DataFrame as it is.
            y: the labels, shape (S,).
            predictions: class probabilities (S, N, C) of models that have not seen the sample, in
                the order of `estimators` and of the sorted labels, in place of out-of-fold ones.

        Raises:
            InvalidInputError: an argument is unusable.
        """
        from distcel.facade.selection_net import train_selector

        names = self._checked_names()
        given, (numbers, y) = X, validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        X = given if hasattr(given, "columns") else numbers
        self.classes_, labels_S = self._labels(y)
        known = self._known_prices(names)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        probs_SNC = self._predictions(X, y, predictions)
        self.estimators_ = [
            one if self.prefit else clone(one).fit(X, y) for _, one in self.estimators
        ]
        self.named_estimators_ = dict(zip(names, self.estimators_, strict=True))
        self._order = sorted(range(len(names)), key=lambda i: self._rank(names[i]))
        self._scaler = StandardScaler().fit(numbers)
        self._selector, self.k_ = train_selector(
            self._features(numbers),
            labels_S,
            np.ascontiguousarray(probs_SNC[:, self._order]),
            tuple(names[i] for i in self._order),
            _plain(self.k),
            known,
            _plain(self.steps),
            seed,
        )
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Class probabilities (B, C); each classifier predicts the samples that it is asked for."""
        given, features_BF = self._given(X)
        answers_BNC, mask_BN = self._asked_first(given, features_BF)
        for place in range(self._n_always, len(self._order)):
            self._answer(answers_BNC, place, given, np.flatnonzero(mask_BN[:, place]))
        probs_BC = self._selector.predict_proba(answers_BNC, features_BF).astype(np.float64)
        probs: NDArray[np.float64] = probs_BC / probs_BC.sum(1, keepdims=True)
        return probs

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each sample, shape (B,)."""
        probs_BC = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probs_BC.argmax(1)]
        return labels

    def selected(self, X: Any) -> NDArray[np.bool_]:
        """Which classifiers are asked for each sample, shape (B, N), in the order of `estimators`.

        Of the classifiers only those that are always asked predict.
        """
        _, mask_BN = self._asked_first(*self._given(X))
        in_order_BN = np.empty_like(mask_BN)
        in_order_BN[:, self._order] = mask_BN
        return in_order_BN

    def cost(self, X: Any) -> NDArray[np.float64]:
        """The price of the classifiers that are asked for each sample, (B,).

        It is their number where there are no prices.
        """
        names = [name for name, _ in self.estimators]
        prices = [1.0 if self.prices is None else self.prices[name] for name in names]
        spent_B: NDArray[np.float64] = self.selected(X) @ np.array(prices)
        return spent_B

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_selector")

    def _checked_names(self) -> list[str]:
        rule, remedy = "at least two pairs of a name and a classifier", "give more estimators"
        pairs = self.estimators if isinstance(self.estimators, Sequence) else []
        fits = len(pairs) >= 2 and all(len(pair) == 2 for pair in pairs)
        require(fits, rule, self.estimators, remedy)
        names = [name for name, _ in pairs]
        self._validate_names(names)
        require_count("steps", _plain(self.steps))
        if self.k != "any":
            require_count("k", _plain(self.k))
            n = len(names) - len(self.always)
            require(self.k <= n, f"1 <= k <= n = {n}", self.k, "give a k in the range, or any")
        for name in self.always:
            require(name in names, f"always among {names}", name, "choose one of these")
        repeated = len(set(self.always)) < len(self.always)
        require(not repeated, "names in always once", self.always, "repeat none")
        if self.prefit:
            for _, one in pairs:
                check_is_fitted(one)
        return names

    def _rank(self, name: str) -> int:
        """The place among those that are always asked, and the same behind them for all others."""
        return list(self.always).index(name) if name in self.always else len(self.always)

    @property
    def _n_always(self) -> int:
        prices = self._selector.prices
        return prices.n_always if prices else 0

    def _known_prices(self, names: list[str]) -> Prices | None:
        if self.prices is None and not self.always and self.budget is None:
            return None
        own = dict.fromkeys(names, 1.0) if self.prices is None else self.prices
        rule = f"a price for each of {names} and no other"
        require(set(own) == set(names), rule, dict(own), "give a price for each name; 0 is allowed")
        ordered = sorted(names, key=self._rank)
        return Prices(tuple(float(own[name]) for name in ordered), len(self.always), self.budget)

    def _labels(self, y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The labels of y and of fitted classifiers, and which one each sample has."""
        known = [one.classes_ for _, one in self.estimators] if self.prefit else []
        classes_C = np.unique(np.concatenate([np.asarray(y), *known]))
        n = len(classes_C)
        require(n > 1, "at least two classes in y", f"{n} class", "give samples of another class")
        return classes_C, np.searchsorted(classes_C, y).astype(np.int64)

    def _predictions(self, X: Any, y: Any, predictions: Any) -> NDArray[np.float32]:
        """What each classifier answers to samples that it has not seen, (S, N, C)."""
        shape = (len(y), len(self.estimators), len(self.classes_))
        if predictions is not None:
            probs_SNC = np.asarray(predictions, np.float32)
            rule = f"predictions of shape {shape}: samples, estimators, classes"
            require(probs_SNC.shape == shape, rule, probs_SNC.shape, "give class probabilities")
            valid = bool(np.all((probs_SNC >= 0) & (probs_SNC <= 1)))
            require(valid, "predictions within 0..1", "others", "give class probabilities")
            return probs_SNC
        own = [one for _, one in self.estimators]
        if not self.prefit:
            return out_of_fold(own, X, y, self.cv, self.classes_)
        answers = [probabilities(one, X, self.classes_) for one in own]
        return np.stack(answers, axis=1).astype(np.float32)

    def _features(self, numbers: NDArray[np.float64]) -> NDArray[np.float32]:
        scaled_BF = self._scaler.transform(numbers).clip(-_FARTHEST, _FARTHEST)
        features_BF: NDArray[np.float32] = scaled_BF.astype(np.float32)
        return features_BF

    def _given(self, X: Any) -> tuple[Any, NDArray[np.float32]]:
        """The samples as the classifiers get them, and as the selection net does."""
        check_is_fitted(self)
        numbers = validate_data(self, X, reset=False, dtype=np.float64)
        return X if hasattr(X, "columns") else numbers, self._features(numbers)

    def _asked_first(
        self, given: Any, features_BF: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Answers of those that are always asked beside even ones, and the mask, in their order."""
        shape = (len(features_BF), len(self._order), len(self.classes_))
        answers_BNC = np.full(shape, 1 / shape[2], np.float32)
        for place in range(self._n_always):
            self._answer(answers_BNC, place, given, np.arange(shape[0]))
        return answers_BNC, self._selector.selected(answers_BNC, features_BF)

    def _answer(
        self, answers_BNC: NDArray[np.float32], place: int, given: Any, rows: NDArray[np.int64]
    ) -> None:
        if len(rows):
            one = self.estimators_[self._order[place]]
            answers_BNC[rows, place] = probabilities(
                one, _safe_indexing(given, rows), self.classes_
            )


def _plain(value: Any) -> Any:
    """NumPy's integers, as a grid of `np.arange` has them, as Python's."""
    return value.item() if isinstance(value, np.integer) else value
