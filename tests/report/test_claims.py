from typing import Any

import numpy as np
import pytest
from scipy import stats

from distcel.report.claims import (
    Interval,
    claims,
    equivalence_p,
    gain_from_learners,
    holm,
    over_seeds,
    t_interval,
)
from tests.report.made_results import made_results, one_seed


def test_the_interval_is_students() -> None:
    values = [0.60, 0.62, 0.67]
    found = t_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.text("+") == "+63.00 [+54.04, +71.96]"
    assert Interval(-0.00002, -0.002, 0.0).text("+") == "+0.00 [-0.20, +0.00]"
    assert (t_interval([0.6]).low, str(t_interval([0.6]))) == (None, "60.00")


def test_holms_correction_by_hand() -> None:
    found = holm({"a": 0.02, "b": 0.01, "c": 0.5, "d": 0.024})
    assert found == pytest.approx({"a": 0.06, "b": 0.04, "c": 0.5, "d": 0.06})
    assert holm({"a": 0.8, "b": 0.9}) == {"a": 1.0, "b": 1.0}


def test_equivalence_is_two_one_sided_tests() -> None:
    values = [0.002, -0.001, 0.004, 0.001]
    sides = [
        stats.ttest_1samp(values, 0.01, alternative="less").pvalue,
        stats.ttest_1samp(values, -0.01, alternative="greater").pvalue,
    ]
    assert equivalence_p(values) == pytest.approx(max(sides))
    assert equivalence_p([-v for v in values]) == pytest.approx(max(sides))
    outside = equivalence_p([0.03, 0.02])
    assert outside is not None
    assert outside > 0.5
    assert (equivalence_p([0.0, 0.0]), equivalence_p([0.02, 0.02])) == (0.0, 1.0)
    assert equivalence_p([0.0]) is None


def led(*leads: tuple[float, float], others: int = 0) -> dict[str, Any]:
    """Two seeds' results in which e2e-CEL leads stacking by these means, with these p's."""
    results = made_results({})
    for seed, (mean, p) in zip(results["seeds"], leads, strict=True):
        against = seed["comparison"]["against"]["e2e_cel"]
        unclear = {key: against[key] | {"mean": 0.0, "p": 1.0} for key in [*against][:others]}
        lead = against["stacking"] | {"mean": mean, "p": p}
        seed["comparison"]["against"] = {"e2e_cel": unclear | {"stacking": lead}}
    return results


@pytest.mark.parametrize(
    ("leads", "others", "verdict"),
    [
        ([(0.05, 0.01), (0.051, 0.01)], 0, "above"),
        ([(-0.05, 0.01), (-0.051, 0.01)], 0, "below"),
        ([(0.05, 0.01), (0.051, 0.2)], 0, "not told apart"),  # one seed's test does not
        ([(0.05, 0.03), (0.051, 0.03)], 1, "not told apart"),  # nor both of two rules
        ([(0.05, 0.01), (0.2, 0.01)], 0, "not told apart"),  # the interval has 0
        ([(0.001, 0.5), (0.0011, 0.5)], 0, "level"),
        ([(0.001, 0.5), (0.009, 0.5)], 0, "not told apart"),
    ],
)
def test_verdicts(leads: list[tuple[float, float]], others: int, verdict: str) -> None:
    assert claims(led(*leads, others=others), "e2e_cel")["stacking"].verdict == verdict


def test_one_seed_has_no_verdict() -> None:
    found = claims(one_seed(), "e2e_cel")
    assert {claim.verdict for claim in found.values()} == {"-"}


def test_the_gain_from_the_learners_is_the_lead_over_the_constant_control() -> None:
    results = made_results({})
    assert gain_from_learners(results) is None
    for seed, lead in zip(results["seeds"], (0.01, 0.03), strict=True):
        comparison = seed["comparison"]
        against = comparison["against"]["e2e_cel"]
        comparison["rules"]["constant_control"] = comparison["rules"]["stacking"]
        against["constant_control"] = against["stacking"] | {"mean": lead}
    gain = over_seeds(results)["gain_from_learners"]
    assert gain["lead"]["mean"] == pytest.approx(0.02)
    assert np.isclose(gain["lead"]["high"] - 0.02, 12.7062 * 0.01, atol=1e-5)
