"""The leads of e2e-CEL over other rules, over the seeds, and what they say: frames of texts."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from distcel.report.claims import (
    ALONE,
    CONTROLS,
    SMART,
    Claim,
    claims,
    gain_from_learners,
    t_interval,
)
from distcel.report.frame import Results, accuracies, comparisons, rule_titles, seed_titles

# The rules of the first table, in its order.
IN_SUMMARY = (
    SMART,
    *CONTROLS,
    ALONE,
    "single_network",
    "stacking",
    "unweighted_average",
    "prior_corrected_pool",
)
GAIN = "gain from the learners"


def leaders(results: Results) -> dict[str, str]:
    """The titles, by key, of the rules that every seed compares with all others."""
    against = [comparison["against"] for comparison in comparisons(results)]
    titles = rule_titles(results)
    return {key: titles[key] for key in against[0] if all(key in leads for leads in against)}


def summary(results: Results) -> pd.DataFrame:
    """E2e-CEL beside its controls and a few rivals, with intervals over the seeds."""
    found, titles, leads = accuracies(results), rule_titles(results), claims(results, SMART)
    rows = {}
    for key in (key for key in IN_SUMMARY if key in titles):
        rows[titles[key]] = [str(t_interval(list(found.loc[key]))), *_claimed(leads.get(key))]
    gain = gain_from_learners(results)
    if gain:
        rows[GAIN] = [gain.lead.text("+"), "-", "-"]
    columns = ["accuracy", f"{titles[SMART]} minus it", f"so {titles[SMART]} is"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("rule")


def _claimed(claim: Claim | None) -> list[str]:
    return [claim.lead.text("+"), claim.verdict] if claim else ["-", "-"]


def leads_by_seed(results: Results, leader: str) -> pd.DataFrame:
    """Table 5: the leader's lead over each rule by seed, over the seeds, and what it says."""
    titles, rows = rule_titles(results), {}
    for key, claim in claims(results, leader).items():
        leads = [found["against"][leader][key] for found in comparisons(results)]
        cells = [_lead(lead, p) for lead, p in zip(leads, claim.p, strict=True)]
        rows[titles[key]] = [*cells, *_claimed(claim)]
    columns = [*seed_titles(results), "over the seeds", f"{titles[leader]} is"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return frame.rename_axis(f"{titles[leader]} minus")


def _lead(difference: Mapping[str, float], corrected: float) -> str:
    interval = f"[{100 * difference['low']:+.2f}, {100 * difference['high']:+.2f}]"
    # An exact test's p is never 0, though it may be too small for a float.
    p = "p < 1e-12" if corrected < 1e-12 else f"p {corrected:.2g}"
    return f"{100 * difference['mean']:+.2f} {interval} {p}"
