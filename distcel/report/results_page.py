"""The pages of results: a page for each data set, and a summary of all reproductions.

Each reproduction is a `FOLDER/NAME/results.json` with its figures beside it.
`FOLDER/DATASET.md` and the summary in `FOLDER.md` are generated from these.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from distcel.report import notes
from distcel.report.claims import (
    CONSTANT,
    CONTROLS,
    SHUFFLED,
    SMART,
    gain_from_learners,
    t_interval,
)
from distcel.report.document import reproduction_body
from distcel.report.frame import (
    Results,
    accuracies,
    bullets,
    launches,
    markdown,
    mean,
    mean_and_deviation,
    rule_titles,
)
from distcel.report.leads import GAIN, IN_SUMMARY
from distcel.report.pareto import selected_ks
from distcel.report.parts import reproduction_title
from distcel.storage.files import write_atomically

logger = logging.getLogger(__name__)

BEGIN = "<!-- The summary below is generated: `distcel report --pages docs/results`. -->"
END = "<!-- End of the summary. -->"
_FILES = ("figure2.svg", "pareto.svg", "results.json")
_OWN_COLUMNS = (
    "e2e_cel_eq_7",
    "learned_vote",
    "single_network",
    "brief_single_network",
    "e2e_cel_from_classifier",
)
_NOT_OTHER = (SMART, *_OWN_COLUMNS, "oracle", "single_mean", *CONTROLS)
_SHORT = [key for key in IN_SUMMARY if key != SHUFFLED]
_IN_SHORT = (
    "Accuracy in % on the test split, mean over the seeds, in brackets its 95 % t-interval. The "
    "constant control is e2e-CEL on base learners that give the same output for every image; the "
    "gain from the learners is what e2e-CEL is above it. `-` is what a reproduction does not have."
)
_CAPTION = (
    "Accuracy in % on the test split, mean ± standard deviation over the seeds; k is what each "
    "seed's search chose. The best other rule is that without a column of its own which has the "
    "highest mean on the test split, a choice that favours it over all the others. `-` is what a "
    "reproduction does not have."
)


def write_pages(folder: Path) -> None:
    """Generate the page of each data set and the summary anew.

    A folder whose `results.json` cannot be read, or is of another version, is left out with a
    warning.

    Args:
        folder: the folder of the reproductions. The summary is in the file beside it, `FOLDER.md`,
            between two comments; the rest of that file stays.
    """
    with _locked(folder):
        _write(folder)


def add_reproduction(folder: Path, report_folder: Path, name: str) -> None:
    """Add a finished reproduction to the pages, or replace it; two processes may do so at once.

    Args:
        folder: the folder of the reproductions.
        report_folder: the folder that `document.write_reproduction` wrote.
        name: the name of its folder among the reproductions.
    """
    with _locked(folder):
        for file_name in _FILES:
            _copy(report_folder / file_name, folder / name / file_name)
        _write(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the pages: reproductions that end at once each read all of them and replace pages."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    write_atomically(target, lambda file: file.write(content))


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _write(folder: Path) -> None:
    by_dataset: dict[str, dict[str, Results]] = {}
    rows: list[dict[str, str]] = []
    short: list[dict[str, str]] = []
    sections: dict[str, list[str]] = {}
    for name, results in _reproductions(folder).items():
        try:
            title, dataset = reproduction_title(results), launches(results)[0]["dataset"]
            section = f"## {title}\n\n{reproduction_body(results, figures=name)}"
            link = f"[{title}]({folder.name}/{dataset}.md)"
            short_row, row = _short_row(link, results), _row(link, results)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            logger.warning("%s/results.json is of another version: %r", folder / name, error)
            continue
        short.append(short_row)
        rows.append(row)
        sections.setdefault(dataset, []).append(section)
        by_dataset.setdefault(dataset, {})[name] = results
    for dataset, shown in by_dataset.items():
        _write_text(
            folder / f"{dataset}.md", _page(dataset, list(shown.values()), sections[dataset])
        )
    _write_text(folder.with_suffix(".md"), _with_summary(folder.with_suffix(".md"), short, rows))


def _reproductions(folder: Path) -> dict[str, Any]:
    """The results that can be read, sorted by name: `mnist-quick` comes before its variants."""
    found = {}
    for path in sorted(folder.glob("*/results.json"), key=lambda path: path.parent.name):
        try:
            found[path.parent.name] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read: %s", path, error)
    return found


def _page(dataset: str, shown: Sequence[Results], sections: Sequence[str]) -> str:
    heading = (
        f"# Results: {dataset}\n\nGenerated from the `results.json` of each section. "
        "[All data sets](../results.md); [what the tables show](#notes)."
    )
    body = "\n\n".join(section.strip() for section in sections)
    explained = bullets(notes.of_reproductions(shown))
    return f"{heading}\n\n{body}\n\n## Notes\n\n{explained}\n"


def _with_summary(
    file: Path, short: Sequence[Mapping[str, str]], rows: Sequence[Mapping[str, str]]
) -> str:
    """The file's text with the summary between its two comments, or at its end if it has none."""
    before = file.read_text() if file.is_file() else "# Results\n"
    parts = [BEGIN, _IN_SHORT, _summary_table(short), _CAPTION, _summary_table(rows), END]
    summary = "\n\n".join(parts)
    head, found, rest = before.partition(BEGIN)
    if not found:
        return f"{before.rstrip()}\n\n{summary}\n"
    return f"{head}{summary}{rest.partition(END)[2]}"


def _summary_table(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    fullest = max(rows, key=len)  # whose columns are in their order
    columns = list(dict.fromkeys(name for row in (fullest, *rows) for name in row))
    return markdown(pd.DataFrame(rows, columns=columns).fillna("-").set_index(""))


def _short_row(title: str, results: Results) -> dict[str, str]:
    """The reproduction's row of the first table, with intervals over the seeds."""
    found, titles, gain = accuracies(results), rule_titles(results), gain_from_learners(results)
    row = {"": title, "seeds": str(len(launches(results)))}
    for key in _SHORT:
        if key in titles:
            row[titles[key]] = str(t_interval(list(found.loc[key])))
        if key == CONSTANT and gain:
            row[GAIN] = gain.lead.text("+")
    return row


def _row(title: str, results: Results) -> dict[str, str]:
    """The reproduction's row of the summary."""
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
        f"{smart} minus {titles[average]}": _signed(sum(lead) / len(lead)),
        "paper's lead": "-" if papers_lead is None else _signed(papers_lead),
        "k": f"{ks} of {first['n_learners']}",
        "best other rule": f"{titles[best]} {mean_and_deviation(found[best])}",
    }
    for key in _OWN_COLUMNS:
        if key in found:
            row[titles[key]] = mean_and_deviation(found[key])
    return row


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"
