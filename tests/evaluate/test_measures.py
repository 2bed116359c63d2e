import numpy as np
import pytest

from distcel.evaluate.measures import LEARNERS, ORACLE, SMART, expected_calibration_error, measure
from distcel.rules.consensus import vote_shares
from distcel.train.cache import CachedSplit
from tests.evaluate.test_compare import sure

# Four samples of three learners: one always right, one wrong of the last class, one always class 0.
LABELS = np.array([0, 0, 1, 3])
SAYS = np.array([[0, 0, 0], [0, 0, 0], [1, 1, 0], [3, 2, 0]])
TEST = CachedSplit(
    np.zeros((4, 1, 2, 2), np.uint8), LABELS, (0.9 * np.eye(4)[SAYS] + 0.025).astype(np.float32)
)
SAID = {
    SMART: sure(LABELS),
    "constant": sure(np.zeros(4, int)),
    "drawn": np.concatenate([sure(LABELS), sure(np.zeros(4, int))]),
}
SLICES = {"odd": np.array([False, True, False, True]), "none": np.zeros(4, bool)}
FOUND = measure(SAID, TEST, ("a", "b", "c", "d"), SLICES)


def test_accuracy_by_hand() -> None:
    assert FOUND.accuracy == {
        SMART: 1.0,
        "constant": 0.5,
        "drawn": 0.75,
        ORACLE: 1.0,
        LEARNERS: 9 / 12,
    }


def test_accuracy_by_class_and_slice_by_hand() -> None:
    # No sample is of class c, and none is in the last slice.
    assert FOUND.class_accuracy[SMART] == {"a": 1, "b": 1, "d": 1}
    assert FOUND.class_accuracy["drawn"] == {"a": 1, "b": 0.5, "d": 0.5}
    assert FOUND.class_accuracy[LEARNERS] == {"a": 1, "b": 2 / 3, "d": 1 / 3}
    assert FOUND.class_accuracy[ORACLE] == {"a": 1, "b": 1, "d": 1}
    assert FOUND.slice_accuracy[LEARNERS] == {"odd": 4 / 6}
    assert FOUND.slice_accuracy["constant"] == {"odd": 0.5}
    assert FOUND.slice_sizes == {"odd": 2, "none": 0}


def test_only_rules_of_one_draw_are_set_against_the_smart_ensemble() -> None:
    assert {leader: set(others) for leader, others in FOUND.against.items()} == {
        SMART: {"constant"}
    }
    assert FOUND.against[SMART]["constant"].mean == 0.5


def test_calibration_by_hand() -> None:
    # Everyone is 0.925 sure.
    expected = {
        SMART: 0.075,
        "constant": 0.425,
        "drawn": 0.25,
        LEARNERS: (0.075 + 0.175 + 0.425) / 3,
    }
    assert FOUND.calibration_error == pytest.approx(expected)


def both(confidence: float) -> list[float]:
    return [confidence, 1 - confidence]


def test_over_and_under_confidence_add_up_in_different_bins_and_cancel_in_one() -> None:
    apart = np.array([both(0.95), both(0.65)])  # sure and wrong, unsure and right
    assert expected_calibration_error(apart, np.array([1, 0])) == pytest.approx((0.95 + 0.35) / 2)
    together = np.array([both(0.95), both(0.95)])
    assert expected_calibration_error(together, np.array([1, 0])) == pytest.approx(0.45)


def test_a_bin_holds_its_upper_end_and_certainty_has_one() -> None:
    # The twelfth of fifteen bins is from 0.7333, without it, to 0.8.
    labels = np.array([1, 0])
    for other in (0.81, 0.73):
        apart = expected_calibration_error(np.array([both(0.8), both(other)]), labels)
        assert apart == pytest.approx((0.8 + 1 - other) / 2)
    together = expected_calibration_error(np.array([both(0.8), both(0.75)]), labels)
    assert together == pytest.approx((0.8 - 0.25) / 2)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_a_share_of_the_votes_is_in_its_own_bin_whatever_its_rounding() -> None:
    # Fourteen of fifteen learners agree, rightly; all agree, wrongly: two bins, two gaps.
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
