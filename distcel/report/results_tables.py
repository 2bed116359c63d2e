"""The two tables of all reproductions, as Markdown: those with controls, and all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from distcel.report.claims import (
    ALONE,
    CONSTANT,
    CONTROLS,
    SHUFFLED,
    SMART,
    gain_from_learners,
    t_interval,
)
from distcel.report.frame import (
    Results,
    accuracies,
    launches,
    markdown,
    mean,
    mean_and_deviation,
    rule_titles,
)
from distcel.report.leads import GAIN, IN_SUMMARY
from distcel.report.pareto import selected_ks

_OWN_COLUMNS = (
    "e2e_cel_eq_7",
    "learned_vote",
    "single_network",
    ALONE,
    "e2e_cel_from_classifier",
)
_NOT_OTHER = (SMART, *_OWN_COLUMNS, "oracle", "single_mean", *CONTROLS)
_WITH_CONTROLS = [key for key in IN_SUMMARY if key != SHUFFLED]
_CAPTION_OF_CONTROLS = (
    "Accuracy in % on the test split, mean over the seeds, in brackets its 95 % t-interval. The "
    "constant control is e2e-CEL on base learners that give the same output for every image; the "
    "gain from the learners is what e2e-CEL is above it. Where all learners know all "
    "classes, these outputs are all but equal, the control is at chance and no null model, and the "
    "brief single network is the one to look at. One seed has no interval, and is an anecdote. "
    "`-` is what a reproduction does not have."
)
_CAPTION_OF_ALL = (
    "Accuracy in % on the test split, mean ± standard deviation over the seeds; k is what each "
    "seed's search chose. The best other rule is that without a column of its own which has the "
    "highest mean on the test split, a choice that favours it over all the others. `-` is what a "
    "reproduction does not have."
)


@dataclass
class ResultsTables:
    """The rows of both tables, in the order in which the reproductions were added."""

    _with_controls: list[dict[str, str]] = field(default_factory=list)
    _all: list[dict[str, str]] = field(default_factory=list)

    def add(self, title: str, results: Results) -> None:
        """Add a reproduction.

        Args:
            title: the first cell of its rows.
            results: its `results.json`.

        Raises:
            KeyError: the results are of another version.
        """
        row = _row(title, results)
        if CONSTANT in rule_titles(results):
            self._with_controls.append(_row_with_controls(title, results))
        self._all.append(row)

    def with_controls(self) -> str:
        """What e2e-CEL reaches beside its constant control and a few rivals; text if none has."""
        if not self._with_controls:
            return "No reproduction has the controls."
        return f"{_CAPTION_OF_CONTROLS}\n\n{_table(self._with_controls)}"

    def of_all(self) -> str:
        """Every reproduction beside the paper, and what else was trained."""
        return f"{_CAPTION_OF_ALL}\n\n{_table(self._all)}"


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    fullest = max(rows, key=len)  # whose columns are in their order
    columns = list(dict.fromkeys(name for row in (fullest, *rows) for name in row))
    return markdown(pd.DataFrame(rows, columns=columns).fillna("-").set_index(""))


def _row_with_controls(title: str, results: Results) -> dict[str, str]:
    """A row of the table with controls, with intervals over the seeds."""
    found, titles, gain = accuracies(results), rule_titles(results), gain_from_learners(results)
    row = {"": title, "seeds": str(len(launches(results)))}
    for key in _WITH_CONTROLS:
        if key in titles:
            row[titles[key]] = str(t_interval(list(found.loc[key])))
        if key == CONSTANT and gain:
            row[GAIN] = gain.lead.text("+")
    return row


def _row(title: str, results: Results) -> dict[str, str]:
    """A row of the table of all."""
    found = {str(key): list(row) for key, row in accuracies(results).iterrows()}
    titles = rule_titles(results)
    first, smart = launches(results)[0], titles[SMART]
    average = "unweighted_average"
    lead = [ours - other for ours, other in zip(found[SMART], found[average], strict=True)]
    paper = first["paper"]
    papers_lead = paper[SMART] - paper[average] if paper else None
    best = max((key for key in found if key not in _NOT_OTHER), key=lambda key: sum(found[key]))
    ks = ", ".join(map(str, selected_ks(results)))
    row = {
        "": title,
        "seeds": str(len(launches(results))),
        smart: mean_and_deviation(found[SMART]),
        f"paper's {smart}": mean([paper[SMART] if paper else None]),
        f"{smart} minus {titles[average]}": mean_and_deviation([sum(lead) / len(lead)], sign="+"),
        "paper's lead": mean_and_deviation([papers_lead], sign="+"),
        "k": f"{ks} of {first['n_learners']}",
        "best other rule": f"{titles[best]} {mean_and_deviation(found[best])}",
    }
    for key in _OWN_COLUMNS:
        if key in found:
            row[titles[key]] = mean_and_deviation(found[key])
    return row
