import numpy as np
import pytest

from distcel.comparison import accuracy_over_k, curve_ks
from distcel.consensus import Draws
from distcel.measures import SMART
from distcel.rules import said_by_rules
from tests.distcel.test_consensus import split_of


def sure(classes_S: np.ndarray) -> Draws:
    """One draw that is all but certain of the classes."""
    return 0.9 * np.eye(4)[None, classes_S] + 0.025


def test_the_values_of_k_span_all_and_hold_the_chosen() -> None:
    assert curve_ks(55, chosen=17) == [1, 2, 4, 7, 14, 17, 18, 28, 55]
    assert curve_ks(3, chosen=2) == [1, 2, 3]


def test_figure_2_by_hand() -> None:
    train, valid, test = split_of(0), split_of(1), split_of(2, n_samples=100)
    wrong = np.where(np.arange(100) < 25, (test.labels_S + 1) % 4, test.labels_S)
    said, _ = said_by_rules(train, valid, test, k=3, seed=0, selector_split="train")
    curve = accuracy_over_k({2: sure(test.labels_S), 3: sure(wrong)}, said, train, test, seed=0)
    assert (curve[2][SMART], curve[3][SMART]) == (1.0, 0.75)
    average = (said["UA"][0].argmax(-1) == test.labels_S).mean()
    assert curve[2]["UA"] == curve[3]["UA"] == average
    assert curve[3]["RS"] == (said["RS"].argmax(-1) == test.labels_S).mean() != curve[2]["RS"]


def test_random_selection_of_all_is_the_unweighted_average() -> None:
    train, test = split_of(0), split_of(2)
    said, _ = said_by_rules(train, split_of(1), test, k=6, seed=0, selector_split="train")
    curve = accuracy_over_k({6: sure(test.labels_S)}, said, train, test, seed=0)
    assert curve[6]["RS"] == pytest.approx(curve[6]["UA"])
