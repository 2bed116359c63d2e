"""Frames of numbers from the `results.json` of a reproduction, one column a seed.

A reproduction is `{"command": ..., "seeds": [{"launch": ..., "comparison": ...}, ...]}`: for each
seed the launch's own `results.json`, and what `evaluate.compare.compare_run` measured beside it.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from distcel.experiment.names import printable
from distcel.search.options import run_title

Results = Mapping[str, Any]


def launches(results: Results) -> list[Results]:
    """Each seed's own `results.json`."""
    return [seed["launch"] for seed in results["seeds"]]


def comparisons(results: Results) -> list[Results]:
    """What was measured beside each seed's launch."""
    return [seed["comparison"] for seed in results["seeds"]]


def text_frame(
    rows: Mapping[str, Sequence[str]], columns: Sequence[str], index: str
) -> pd.DataFrame:
    """A frame of texts; `index` is the name of what the rows are named by."""
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    return frame.rename_axis(index)


def seconds_of_all(results: Results) -> Counter[str]:
    """The seconds that the trainings of each stage took, over all seeds."""
    total: Counter[str] = Counter()
    for launch, comparison in zip(launches(results), comparisons(results), strict=True):
        total.update(launch["seconds"])
        total.update(comparison["seconds"])
    return total


def seed_titles(results: Results) -> list[str]:
    """The column names of a table with one column a seed."""
    return [f"seed {launch['seed']}" for launch in launches(results)]


def title(launch: Results) -> str:
    """The title that the launches of all seeds share, with the fixed hyperparameters."""
    split = launch["selector_split"]
    return run_title(launch["dataset"], launch["preset"], split, launch["fixed"])


def rule_titles(results: Results) -> dict[str, str]:
    """The titles of the rules that every seed has, by key; a trained one may have diverged."""
    rules = [comparison["rules"] for comparison in comparisons(results)]
    return {
        key: rule["title"]
        for key, rule in rules[0].items()
        if all(key in seed_rules for seed_rules in rules)
    }


def by_rule(results: Results, value: Callable[[Results, str], Any]) -> pd.DataFrame:
    """A row for each rule that every seed has, by key.

    Args:
        results: the results of the reproduction.
        value: a cell, from a seed's comparison and the rule's key.
    """
    found = comparisons(results)
    rows = {key: [value(comparison, key) for comparison in found] for key in rule_titles(results)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=seed_titles(results), dtype=object)


def accuracies(results: Results) -> pd.DataFrame:
    """The accuracy of each rule that every seed has, as a fraction."""
    return by_rule(results, lambda comparison, key: comparison["rules"][key]["accuracy"])


def over_k(results: Results, key: str) -> pd.DataFrame:
    """The rule's accuracy at each k of Figure 2 that every seed has, as a fraction."""
    columns = [
        pd.Series(
            {point["k"]: point["accuracy"][key] for point in comparison["over_k"]}, dtype=object
        )
        for comparison in comparisons(results)
    ]
    found = pd.concat(columns, axis=1, join="inner", keys=seed_titles(results))
    return found.sort_index()


def curve_keys(results: Results) -> list[str]:
    """The keys of the rules that Figure 2 shows."""
    return list(comparisons(results)[0]["over_k"][0]["accuracy"])


def two_decimals(value: float, sign: str = "") -> str:
    """The number as text; what rounds to zero is 0.00, never -0.00."""
    return f"{round(value, 2) + 0.0:{sign}.2f}"


def mean(values: Iterable[float | None]) -> str:
    """The mean in percent, as text; `-` where there is no value."""
    known = [value for value in values if value is not None]
    return two_decimals(100 * statistics.mean(known)) if known else "-"


def mean_and_deviation(
    values: Iterable[float | None], scale: float = 100.0, sign: str = "", n_seeds: int | None = None
) -> str:
    """Mean and standard deviation, as text, in percent; `-` where there is no value.

    Args:
        values: one a seed; a single one has no standard deviation, which is the sample's.
        scale: what the values are multiplied by; 100 makes fractions percent.
        sign: `+` writes the sign of a positive mean.
        n_seeds: if there are fewer values than this, their number follows in brackets.
    """
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    text = two_decimals(scale * statistics.mean(known), sign)
    if len(known) > 1:
        text += f" ± {scale * statistics.stdev(known):.2f}"
    return text if n_seeds in (None, len(known)) else f"{text} ({len(known)})"


def show(
    frame: pd.DataFrame, cell: Callable[[Sequence[Any]], str] = mean_and_deviation
) -> list[str]:
    """A text for each row of a frame with one column a seed."""
    return [cell(list(row)) for row in frame.itertuples(index=False)]


def markdown(frame: pd.DataFrame) -> str:
    """The frame of texts as a Markdown table; the index is its first column."""
    # A class name may contain a bar, which would end a cell, or a newline, which would end a row.
    escaped = frame.reset_index(names=frame.index.name or "").map(_escaped)
    escaped.columns = [_escaped(name) for name in escaped.columns]
    return str(escaped.to_markdown(index=False, disable_numparse=True))


def _escaped(text: object) -> str:
    return printable(str(text)).replace("|", "\\|")


def bullets(points: Iterable[str]) -> str:
    """A list, one line a point."""
    return "\n".join(f"- {point}" for point in points)
