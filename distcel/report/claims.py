"""What can be claimed over the seeds: intervals, corrections for many rules, equivalence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distcel.report.frame import Results, comparisons, rule_titles, two_decimals

SMART, CONSTANT, SHUFFLED = "e2e_cel", "constant_control", "shuffled_control"
ALONE = "brief_single_network"
CONTROLS = (CONSTANT, SHUFFLED)
MARGIN = 0.01  # rules are level if their accuracies differ by less than one percentage point
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % t-interval, as fractions; one seed has no interval."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return self.text()

    def text(self, sign: str = "") -> str:
        """In percent; `sign` = `+` writes the signs of positive numbers."""

        def percent(fraction: float) -> str:
            return two_decimals(100 * fraction, sign)

        if self.low is None or self.high is None:
            return percent(self.mean)
        return f"{percent(self.mean)} [{percent(self.low)}, {percent(self.high)}]"


@dataclass(frozen=True)
class Claim:
    """What can be said of the lead of one rule over another.

    Attributes:
        lead: the lead over the seeds.
        p: for each seed the p of McNemar's test, by Holm's correction over all compared rules.
        p_level: the p of the equivalence test over the seeds, likewise; None with one seed.
        verdict: `above`, `below`, `level`, `not told apart`, or `-` with one seed.
    """

    lead: Interval
    p: tuple[float, ...]
    p_level: float | None
    verdict: str


def t_interval(values: Sequence[float]) -> Interval:
    """The mean and its 95 % interval by Student's t, the values being independent."""
    mean, width = statistics.mean(values), _standard_error(values)
    if width is None:
        return Interval(mean, None, None)
    width *= _t(len(values)).ppf(0.975)
    return Interval(mean, mean - width, mean + width)


def holm(p_by_key: Mapping[str, float]) -> dict[str, float]:
    """The p-values by Holm's step-down correction, which bounds the chance of any false claim."""
    corrected, highest = {}, 0.0
    for rank, (key, p) in enumerate(sorted(p_by_key.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_by_key) - rank) * p))
        corrected[key] = highest
    return {key: corrected[key] for key in p_by_key}


def equivalence_p(values: Sequence[float], margin: float = MARGIN) -> float | None:
    """The p of two one-sided t-tests that the mean is within the margin; None with one value."""
    error, inside = _standard_error(values), margin - abs(statistics.mean(values))
    if error is None:
        return None
    if error == 0:
        return 0.0 if inside > 0 else 1.0
    return float(_t(len(values)).sf(inside / error))


def claims(results: Results, leader: str) -> dict[str, Claim]:
    """What can be said of a leader's lead over each rule that every seed compares it with, by key.

    It is above or below a rule if each seed's corrected test on the test images and the interval
    over the seeds exclude equality; else level with it if the equivalence test says so.
    """
    against = [comparison["against"][leader] for comparison in comparisons(results)]
    keys = [key for key in rule_titles(results) if all(key in leads for leads in against)]
    p_by_seed = [holm({key: leads[key]["p"] for key in keys}) for leads in against]
    means = {key: [leads[key]["mean"] for leads in against] for key in keys}
    raw = {key: equivalence_p(values) for key, values in means.items()}
    p_level = holm({key: p for key, p in raw.items() if p is not None})
    found = {}
    for key, values in means.items():
        p = tuple(corrected[key] for corrected in p_by_seed)
        lead = t_interval(values)
        found[key] = Claim(lead, p, p_level.get(key), _verdict(lead, values, p, p_level.get(key)))
    return found


def _verdict(
    lead: Interval, values: Sequence[float], p: Sequence[float], p_level: float | None
) -> str:
    if lead.low is None or lead.high is None or p_level is None:
        return "-"
    significant = max(p) < SIGNIFICANCE
    if significant and lead.low > 0 and min(values) > 0:
        return "above"
    if significant and lead.high < 0 and max(values) < 0:
        return "below"
    return "level" if p_level < SIGNIFICANCE else "not told apart"


def gain_from_learners(results: Results) -> Claim | None:
    """The lead of e2e-CEL over its constant control; None where a seed has no such control."""
    return claims(results, SMART).get(CONSTANT)


def over_seeds(results: Results) -> dict[str, Any]:
    """The claims, for the `results.json` of a reproduction."""
    gain, seeds = gain_from_learners(results), comparisons(results)
    leaders = [key for key in seeds[0]["against"] if all(key in s["against"] for s in seeds)]
    against = {
        leader: {key: asdict(claim) for key, claim in claims(results, leader).items()}
        for leader in leaders
    }
    return {"gain_from_learners": asdict(gain) if gain else None, "against": against}


def _standard_error(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    return statistics.stdev(values) / math.sqrt(len(values))


def _t(n_values: int) -> Any:
    from scipy.stats import t  # the import takes a second

    return t(n_values - 1)
