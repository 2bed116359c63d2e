import numpy as np
import pytest

from distcel.evaluate.calibration import (
    calibration,
    fit_temperature,
    negative_log_likelihood,
    with_temperature,
)


def drawn(seed: int, n_samples: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated probabilities (S, 3), and labels drawn by them."""
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(3), n_samples)
    return probs, np.array((random.random((n_samples, 1)) > probs.cumsum(1)).sum(1))


def test_temperature_divides_the_logits() -> None:
    logits = np.array([[1.0, 3.0, -2.0]])
    probs = np.exp(logits) / np.exp(logits).sum()
    halved = np.exp(logits / 2) / np.exp(logits / 2).sum()
    np.testing.assert_allclose(with_temperature(probs, 2.0), halved)
    assert negative_log_likelihood(halved, np.array([0])) == pytest.approx(-np.log(halved[0, 0]))


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found(factor: float) -> None:
    probs, labels = drawn(0)
    assert fit_temperature(with_temperature(probs, 1 / factor), labels) == pytest.approx(
        factor, rel=0.05
    )


def test_it_is_fitted_on_valid_and_calibrates_test_without_another_decision() -> None:
    (valid, valid_labels), (test, test_labels) = drawn(0), drawn(1)
    low, too_low = (with_temperature(probs, 4.0) for probs in (valid, test))
    found = calibration(low, valid_labels, too_low, test_labels)
    assert found["before"]["calibration_error"] > 0.1
    assert found["after"]["calibration_error"] < 0.02
    before, after = (found[when]["negative_log_likelihood"] for when in ("before", "after"))
    assert after < before
    tempered = with_temperature(too_low, found["temperature"])
    np.testing.assert_array_equal(tempered.argmax(1), too_low.argmax(1))
    turned = calibration(low, (valid_labels + 1) % 3, too_low, test_labels)
    assert turned["temperature"] > found["temperature"]


def test_a_valid_split_without_an_error_has_the_lowest_temperature() -> None:
    probs = np.array([[0.6, 0.4], [0.3, 0.7]])
    found = fit_temperature(probs, np.array([0, 1]))
    assert found == pytest.approx(0.02, rel=0.01)
    assert np.isfinite(with_temperature(np.array([[1.0, 0.0]]), found)).all()
