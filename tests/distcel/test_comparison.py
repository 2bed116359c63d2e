import numpy as np
import pytest

from distcel.comparison import SMART, choices, compare, curve_ks
from distcel.predictions import CachedSplit
from tests.distcel.test_consensus import split_of


def told_by(split: CachedSplit, learner: int) -> CachedSplit:
    """The split, with one learner that knows every class."""
    probs = split.probs_SNC.copy()
    probs[:, learner] = 0.99 * np.eye(4)[split.labels_S] + 0.0025
    return CachedSplit(split.images_SCHW, split.labels_S, probs)


def test_the_values_of_k_span_all_and_hold_the_chosen() -> None:
    assert curve_ks(55, chosen=17) == [1, 2, 3, 4, 7, 12, 17, 20, 33, 55]
    assert curve_ks(3, chosen=2) == [1, 2, 3]


def test_learners_are_picked_on_valid_and_weights_are_fitted_on_train() -> None:
    train, valid, test = told_by(split_of(0), 4), told_by(split_of(1), 5), split_of(2)
    found = choices(train, valid, test, k=1, seed=0)
    fifth, sixth = (test.probs_SNC[:, learner].argmax(-1) for learner in (4, 5))
    for rule in ("best learner", "static top-k", "discrete SL", "greedy selection"):
        np.testing.assert_array_equal(found[rule][0], sixth)
    # Stacking believes the fifth, which tells everything about the train split.
    agreed = (found["logistic stacking"][0] == fifth).mean()
    assert agreed > (found["logistic stacking"][0] == sixth).mean() + 0.3


def test_a_comparison_by_hand() -> None:
    train, valid, test = split_of(0), split_of(1), split_of(2, n_samples=100)
    perfect = test.labels_S[None]
    wrong = perfect.copy()
    wrong[0, :25] = (wrong[0, :25] + 1) % 4
    found = compare({2: perfect, 3: wrong}, 3, train, valid, test, seed=0)
    assert found.accuracy[SMART] == 0.75
    assert (found.curve[2][SMART], found.curve[3][SMART]) == (1.0, 0.75)
    assert found.curve[2]["UA"] == found.curve[3]["UA"] == found.accuracy["UA"]
    assert found.curve[3]["RS"] == found.accuracy["RS"]
    assert set(found.against) == set(found.accuracy) - {SMART, "RS", "oracle"}
    for title, difference in found.against.items():
        assert difference.mean == pytest.approx(0.75 - found.accuracy[title])


def test_random_selection_of_all_is_the_unweighted_average() -> None:
    test = split_of(2)
    found = compare({6: test.labels_S[None]}, 6, split_of(0), split_of(1), test, seed=0)
    assert found.curve[6]["RS"] == pytest.approx(found.curve[6]["UA"])
