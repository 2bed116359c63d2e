from typing import Any

import numpy as np
import pytest

from distcel.evaluate.metrics import (
    difference,
    expected_calibration_error,
    measure,
    slices,
)
from distcel.rules.consensus import vote_shares
from distcel.rules.rule import ProbsDSC
from tests.cached_splits import made_split


def sure(classes_S: np.ndarray) -> ProbsDSC:
    """One draw that is all but certain of the classes."""
    return 0.9 * np.eye(4)[None, classes_S] + 0.025


# Four samples; one learner is always correct, one wrong on the last class, one always class 0.
LABELS = np.array([0, 0, 1, 3])
PREDICTED = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [3, 2, 0]])
TEST = made_split(LABELS, 0.9 * np.eye(4)[PREDICTED] + 0.025)
PROBS = {
    "e2e_cel": sure(LABELS),
    "constant": sure(np.zeros(4, int)),
    "drawn": np.concatenate([sure(LABELS), sure(np.zeros(4, int))]),
}
SLICES = {"odd": np.array([False, True, False, True]), "none": np.zeros(4, bool)}
FOUND = measure(PROBS, TEST, ("a", "b", "c", "d"), SLICES, ["e2e_cel"])


def of_rules(name: str) -> dict[str, Any]:
    return {key: rule[name] for key, rule in FOUND["rules"].items() if name in rule}


def test_accuracy_by_hand() -> None:
    assert of_rules("accuracy") == {
        "e2e_cel": 1.0,
        "constant": 0.5,
        "drawn": 0.75,
        "oracle": 1.0,
        "single_mean": 9 / 12,
    }


def test_accuracy_by_class_and_slice_by_hand() -> None:
    # No sample is of class c, and none is in the last slice.
    assert of_rules("class_accuracy")["e2e_cel"] == {"a": 1, "b": 1, "d": 1}
    assert of_rules("class_accuracy")["drawn"] == {"a": 1, "b": 0.5, "d": 0.5}
    assert of_rules("class_accuracy")["single_mean"] == {"a": 1, "b": 2 / 3, "d": 1 / 3}
    assert of_rules("class_accuracy")["oracle"] == {"a": 1, "b": 1, "d": 1}
    assert of_rules("slice_accuracy")["single_mean"] == {"odd": 4 / 6}
    assert of_rules("slice_accuracy")["constant"] == {"odd": 0.5}
    assert FOUND["slice_sizes"] == {"odd": 2, "none": 0}


def test_only_rules_of_one_draw_are_compared_with_the_smart_ensemble() -> None:
    assert {leader: set(others) for leader, others in FOUND["against"].items()} == {
        "e2e_cel": {"constant"}
    }
    assert FOUND["against"]["e2e_cel"]["constant"]["mean"] == 0.5


def test_calibration_by_hand() -> None:
    # Every confidence is 0.925.
    expected = {
        "e2e_cel": 0.075,
        "constant": 0.425,
        "drawn": 0.25,
        "single_mean": (0.075 + 0.175 + 0.425) / 3,
    }
    assert of_rules("calibration_error") == pytest.approx(expected)


def both(confidence: float) -> list[float]:
    return [confidence, 1 - confidence]


def test_over_and_under_confidence_add_up_in_different_bins_and_cancel_in_one() -> None:
    apart = np.array([both(0.95), both(0.65)])  # confident and wrong, not confident and correct
    assert expected_calibration_error(apart, np.array([1, 0])) == pytest.approx((0.95 + 0.35) / 2)
    together = np.array([both(0.95), both(0.95)])
    assert expected_calibration_error(together, np.array([1, 0])) == pytest.approx(0.45)


def test_a_bin_includes_its_upper_end_and_certainty_has_a_bin() -> None:
    # The twelfth of fifteen bins is from 0.7333, without it, to 0.8.
    labels = np.array([1, 0])
    for other in (0.81, 0.73):
        apart = expected_calibration_error(np.array([both(0.8), both(other)]), labels)
        assert apart == pytest.approx((0.8 + 1 - other) / 2)
    together = expected_calibration_error(np.array([both(0.8), both(0.75)]), labels)
    assert together == pytest.approx((0.8 - 0.25) / 2)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_a_share_of_the_votes_is_in_its_own_bin_whatever_its_rounding() -> None:
    # Fourteen of fifteen learners agree on the correct class, all on a wrong one: two bins.
    votes = np.array([[14.0, 1.0], [15.0, 0.0]])
    shares = vote_shares(votes, np.array([0, 0])).numpy()
    error = expected_calibration_error(shares, np.array([0, 1]))
    assert error == pytest.approx((1 / 15 + 1) / 2, abs=1e-5)


def test_a_calibrated_rule_has_next_to_no_error() -> None:
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(3), 100_000)
    labels = np.array((random.random((100_000, 1)) > probs.cumsum(1)).sum(1))
    assert expected_calibration_error(probs, labels) < 0.01
    assert expected_calibration_error(probs**3 / (probs**3).sum(1, keepdims=True), labels) > 0.1


def correct_samples(
    both: int, first: int, second: int, neither: int
) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, first, second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat(
        [True, False, True, False], counts
    )


def test_a_difference_by_hand() -> None:
    found = difference(*correct_samples(80, 10, 2, 8))
    assert found["mean"] == pytest.approx(0.08)
    # Twelve samples that only one has correct, ten of them the first: 2 (C(12,10) + 12 + 1) / 2^12.
    assert found["p"] == pytest.approx(2 * 79 / 4096)
    assert found["low"] < 0.08 < found["high"]


def test_the_interval_is_the_bootstraps() -> None:
    one, other = correct_samples(300, 60, 35, 105)
    found = difference(one, other)
    random = np.random.default_rng(5)
    chosen = random.integers(0, len(one), (4000, len(one)))
    means = (one[chosen].astype(float) - other[chosen]).mean(1)
    np.testing.assert_allclose(
        (found["low"], found["high"]), np.quantile(means, (0.025, 0.975)), atol=0.004
    )


def test_equal_rules_do_not_differ() -> None:
    one, _ = correct_samples(5, 5, 0, 3)
    found = difference(one, one)
    assert (found["mean"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)


def test_swapped_rules_change_the_sign() -> None:
    one, other = correct_samples(50, 20, 10, 20)
    found, turned = difference(one, other), difference(other, one)
    assert turned["mean"] == -found["mean"]
    assert turned["p"] == found["p"]
    assert turned["low"] == pytest.approx(-found["high"], abs=0.02)


IDS = [
    "100_1_0_20170110183726390.jpg.chip.jpg",
    "8_0_3_20170110183726390.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",  # these lack a field, as in the archive itself
    "61_3_20170109150557335.jpg.chip.jpg",
    "53__0_20170116184028385.jpg",
    "26_1_4_20170117154225033.jpg",
]


def test_utkface_has_slices_by_gender_and_ethnicity() -> None:
    inside = {name: np.flatnonzero(of_slice) for name, of_slice in slices("utkface", IDS).items()}
    expected = {
        "male": [1],
        "female": [0, 5],
        "White": [0],
        "Black": [],
        "Asian": [],
        "Indian": [1],
        "Others": [5],
    }
    assert {name: found.tolist() for name, found in inside.items()} == expected


def test_other_data_sets_have_none() -> None:
    assert slices("folder", IDS) == {}
