"""The selection among given classifiers, as a scikit-learn classifier."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import estimator_checks_generator

import distcel

KINDS = ("ash", "elm", "oak")


class Expert(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Knows the label where the first feature is in its third; elsewhere it gives the next."""

    def __init__(self, third: int) -> None:
        self.third = third

    def fit(self, X: Any, y: Any) -> Expert:
        self.classes_, self.n_asked_ = np.array(KINDS), 0
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        self.n_asked_ += len(X)
        X = np.asarray(X)
        mine_B = third_of(X) == self.third
        probs: NDArray[np.float64] = np.eye(3)[(X[:, 1].astype(int) + ~mine_B) % 3]
        return probs


def third_of(X: NDArray[np.float64]) -> NDArray[np.int64]:
    return (3 * X[:, 0]).astype(int).clip(0, 2)


def samples(n: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    draw = np.random.default_rng(seed)
    X = np.stack([draw.uniform(size=n), draw.integers(0, 3, n), draw.normal(size=n)], axis=1)
    return X, np.array(KINDS)[X[:, 1].astype(int)]


def experts() -> list[tuple[str, Any]]:
    return [(f"third{i}", Expert(i)) for i in range(3)]


def simple(k: Any = 2, **options: Any) -> distcel.SmartSelector:
    own = [
        ("logistic", LogisticRegression()),
        ("tree", DecisionTreeClassifier(max_depth=3, random_state=0)),
        ("bayes", GaussianNB()),
    ]
    options = {"steps": 20} | options
    return distcel.SmartSelector(own, k=k, cv=2, random_state=0, **options)


CHECKS = list(estimator_checks_generator(simple(), mark="skip"))


# Numbers, since the checks' texts have addresses in memory, which no two processes share.
@pytest.mark.parametrize(("one", "check"), CHECKS, ids=map(str, range(len(CHECKS))))
def test_it_passes_the_checks_of_scikit_learn(one: Any, check: Any) -> None:
    check(one)


@pytest.fixture(scope="module")
def chosen() -> distcel.SmartSelector:
    return distcel.SmartSelector(experts(), k=1, cv=2, random_state=0).fit(*samples())


def test_it_asks_the_one_that_knows(chosen: distcel.SmartSelector) -> None:
    X, y = samples(seed=1)
    mask = chosen.selected(X)
    assert mask.shape == (400, 3)
    assert mask.dtype == bool
    assert (mask.sum(1) == 1).all()
    assert (mask.argmax(1) == third_of(X)).mean() > 0.9
    assert chosen.score(X, y) > 0.9
    np.testing.assert_array_equal(chosen.cost(X), 1)


def test_only_the_selected_are_asked(chosen: distcel.SmartSelector) -> None:
    X, _ = samples(seed=2)
    before = [one.n_asked_ for one in chosen.estimators_]
    mask = chosen.selected(X)
    assert [one.n_asked_ for one in chosen.estimators_] == before
    chosen.predict(X)
    asked = [one.n_asked_ - n for one, n in zip(chosen.estimators_, before, strict=True)]
    assert asked == mask.sum(0).tolist()


def test_the_same_random_state_gives_the_same(chosen: distcel.SmartSelector) -> None:
    X, y = samples()
    again = clone(chosen).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), chosen.predict_proba(X))
    unpickled = pickle.loads(pickle.dumps(chosen))
    np.testing.assert_array_equal(unpickled.predict_proba(X), chosen.predict_proba(X))
    other = clone(chosen).set_params(random_state=1).fit(X, y)
    assert (other.predict_proba(X) != chosen.predict_proba(X)).any()


def test_any_k_is_chosen_on_valid() -> None:
    X, y = samples()
    one = distcel.SmartSelector(experts(), k="any", cv=2, random_state=0).fit(X, y)
    assert one.k_ == 1  # of more than one expert, all but one are wrong
    assert (one.selected(X).sum(1) == 1).all()


def test_data_frames_pipelines_and_grid_search() -> None:
    X, y = samples(90)
    frame = pd.DataFrame(X, columns=["place", "kind", "noise"])
    pipeline = make_pipeline(MinMaxScaler().set_output(transform="pandas"), simple())
    grid = {"smartselector__k": np.arange(1, 3), "smartselector__tree__max_depth": [1]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(frame, y)
    found = search.best_estimator_[-1]
    assert found.feature_names_in_.tolist() == ["place", "kind", "noise"]
    assert found.named_estimators_["tree"].max_depth == 1
    assert set(search.predict(frame)) <= set(KINDS)
    assert search.predict_proba(frame).shape == (90, 3)


def test_what_is_worth_its_price() -> None:
    X, y = samples()
    always = [("third0", Expert(0))]
    prices = {"third0": 2.0, "third1": 0.5, "third2": 0.5}
    own = [*experts()[1:], *always]
    one = distcel.SmartSelector(
        own, k="any", prices=prices, always=["third0"], budget=2.4, cv=2, random_state=0
    ).fit(X, y)
    mask = one.selected(X)
    assert mask[:, 2].all()  # in the order of the estimators, not of the net
    np.testing.assert_allclose(one.cost(X), mask @ [0.5, 0.5, 2.0])
    assert one.cost(X).mean() <= 2.4 + 1e-9
    assert one.score(X, y) > 0.5


def test_fitted_ones_are_not_fitted_again() -> None:
    X, y = samples()
    fitted = [(name, one.fit(X, y)) for name, one in experts()]
    one = distcel.SmartSelector(fitted, k=1, prefit=True, random_state=0).fit(X, y)
    assert [own is given for own, (_, given) in zip(one.estimators_, fitted, strict=True)] == 3 * [
        True
    ]
    seen = np.stack([given.predict_proba(X) for _, given in fitted], axis=1)
    again = clone(one).set_params(estimators=fitted).fit(X, y, predictions=seen)
    np.testing.assert_array_equal(again.predict_proba(X), one.predict_proba(X))


def test_a_classifier_without_probabilities_counts_as_certain() -> None:
    X, y = samples(90)
    own = [("perceptron", Perceptron()), ("bayes", GaussianNB())]
    one = distcel.SmartSelector(own, k=1, cv=2, random_state=0).fit(X, y)
    probs = one.predict_proba(X)
    np.testing.assert_allclose(probs.sum(1), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "expected 1 <= k <= n = 3, but got 4"),
        ({"k": 3, "always": ["tree"]}, "expected 1 <= k <= n = 2, but got 3"),
        ({"always": ["oak"]}, "always among .* but got 'oak'"),
        ({"steps": 0}, "a whole number steps >= 1, but got 0"),
        ({"prices": {"tree": 1.0}}, "a price for each of"),
        ({"prices": {"logistic": 1.0, "tree": -1.0, "bayes": 1.0}}, "0 <= price"),
    ],
)
def test_unusable_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    one = simple(**({"k": 1} | options))
    with pytest.raises(distcel.InvalidInputError, match=message):
        one.fit(*samples(30))


def test_predictions_of_another_shape_are_refused() -> None:
    X, y = samples(30)
    with pytest.raises(distcel.InvalidInputError, match=r"predictions of shape \(30, 3, 3\)"):
        simple().fit(X, y, predictions=np.zeros((30, 3, 2)))
