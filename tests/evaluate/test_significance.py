import numpy as np
import pytest

from distcel.evaluate.significance import difference


def rights(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, first, second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat(
        [True, False, True, False], counts
    )


def test_by_hand() -> None:
    found = difference(*rights(80, 10, 2, 8))
    assert found.mean == pytest.approx(0.08)
    # Twelve samples that only one has right, ten of them the first: 2 (C(12,10) + 12 + 1) / 2^12.
    assert found.p == pytest.approx(2 * 79 / 4096)
    assert found.low < 0.08 < found.high


def test_the_interval_is_the_bootstraps() -> None:
    one, other = rights(300, 60, 35, 105)
    found = difference(one, other)
    random = np.random.default_rng(5)
    chosen = random.integers(0, len(one), (4000, len(one)))
    means = (one[chosen].astype(float) - other[chosen]).mean(1)
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(means, (0.025, 0.975)), atol=0.004
    )


def test_equal_rules_do_not_differ() -> None:
    one, _ = rights(5, 5, 0, 3)
    found = difference(one, one)
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_swapped_rules_turn_the_sign() -> None:
    one, other = rights(50, 20, 10, 20)
    found, turned = difference(one, other), difference(other, one)
    assert turned.mean == -found.mean
    assert turned.p == found.p
    assert turned.low == pytest.approx(-found.high, abs=0.02)
