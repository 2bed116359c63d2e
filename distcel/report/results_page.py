"""A Markdown file of several reproductions: a section each and, before them, all on one page.

The `results.json` in `figures/NAME/` are the truth; sections and summary are views of them.
"""

from __future__ import annotations

import fcntl
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distcel.evaluate.measures import LEARNERS, ORACLE, SMART
from distcel.evaluate.outcome_json import from_json
from distcel.evaluate.outcomes import mean_and_deviation
from distcel.experiment.types import Published
from distcel.report.document import report
from distcel.report.markdown import markdown
from distcel.rules.learned_vote import LEARNED_VOTE
from distcel.rules.trained import BRIEF_SINGLE, EQ_7, SINGLE
from distcel.storage.files import write_atomically

SUMMARY = "All sections"
_FIGURE = re.compile(r"\]\(figures/([^/)]+)/figure2\.svg\)")
_HEADER = [
    *("", "seeds", SMART, f"paper's {SMART}", f"{SMART} minus UA", "paper's lead", "k", EQ_7),
    LEARNED_VOTE,
    *("best other rule", SINGLE, BRIEF_SINGLE),
]
_NOT_OTHER = (SMART, EQ_7, LEARNED_VOTE, SINGLE, BRIEF_SINGLE, ORACLE, LEARNERS)
_CAPTION = (
    "Accuracy in % on the test split, mean ± standard deviation over the seeds; k is what each "
    "seed's search chose. The best other rule is that without a column of its own which has the "
    "highest mean on the test split, a choice that favours it over all the others. `-` is what a "
    "section does not have, and all of one whose results.json is not beside it."
)


def put_section(file: Path, report_folder: Path, name: str) -> None:
    """Put a report into the file as the section of its title, and sum all reports up.

    Every section is laid out anew from its results.json, so that all of them look as this
    version's do; one that has none, or another version's, stays as it is.

    Args:
        file: Markdown, made where it is not there yet.
        report_folder: where `reproduction.write` left the report.
        name: of the section's folder, in `figures` beside the file, for its figures and its
            results.json.
    """
    with _alone_in(file.parent / "figures"):
        _put_section(file, report_folder, name)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two reproductions may end at once, and each reads the file and then replaces it."""
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("a") as file:
        with suppress(OSError):  # of a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _put_section(file: Path, report_folder: Path, name: str) -> None:
    figures = file.parent / "figures"
    for file_name in ("figure2.svg", "pareto.svg", "results.json"):
        _copy(report_folder / file_name, figures / name / file_name)
    heading, text = (report_folder / "report.md").read_text().split("\n", 1)
    title, body = heading.removeprefix("# "), text.replace("](./", f"](figures/{name}/")
    before = file.read_text() if file.is_file() else "# Results\n"
    head, *parts = re.split(r"^## (.+)\n", before, flags=re.MULTILINE)
    sections = list(zip(parts[::2], parts[1::2], strict=True))
    sections = [section for section in sections if section[0] != SUMMARY]
    headings = [heading for heading, _ in sections]
    place = headings.index(title) if title in headings else len(sections)
    sections[place : place + 1] = [(title, body)]
    sections = [(heading, _laid_out(body, figures)) for heading, body in sections]
    if summed := _summary(sections, figures):
        sections.insert(0, (SUMMARY, summed))
    parts = [head, *(f"## {heading}\n\n{body.lstrip()}" for heading, body in sections)]
    content = "\n\n".join(part.strip("\n") for part in parts) + "\n"
    write_atomically(file, lambda out: out.write(content.encode()))


def _laid_out(body: str, figures: Path) -> str:
    """The section's report, from its results.json if that can be read."""
    link = _FIGURE.search(body)
    if link is None:
        return body
    try:
        results = json.loads((figures / link[1] / "results.json").read_text())
        command, paper = results["command"], results["seeds"][0]["results"]["paper"]
        published = Published(**paper) if paper else None
        outcomes = [from_json(seed) for seed in results["seeds"]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return body  # of another version, or changed by hand
    return report(command, outcomes, published).replace("](./", f"](figures/{link[1]}/")


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    write_atomically(target, lambda file: file.write(content))


def _summary(sections: Sequence[tuple[str, str]], figures: Path) -> str:
    """A row for each section that is a report; empty for less than two."""
    links = [(title, _FIGURE.search(body)) for title, body in sections]
    rows = [(title, _row(figures / link[1])) for title, link in links if link]
    return f"{_CAPTION}\n\n{markdown(_HEADER, rows)}" if len(rows) > 1 else ""


def _row(folder: Path) -> list[str]:
    try:
        return _cells(json.loads((folder / "results.json").read_text())["seeds"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ["-"] * (len(_HEADER) - 1)  # of another version, or changed by hand


def _cells(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    found = _accuracies(seeds)
    means = {title: statistics.mean(values) for title, values in found.items()}
    others = [title for title in means if title not in _NOT_OTHER]
    best = max(others, key=means.__getitem__)
    first = seeds[0]["results"]
    ks = ", ".join(str(seed["results"]["best"]["k"]) for seed in seeds)
    paper = first["paper"]
    lead = paper["e2e_cel"] - paper["unweighted_average"] if paper else None
    return [
        str(len(seeds)),
        mean_and_deviation(found[SMART]),
        f"{100 * paper['e2e_cel']:.2f}" if paper else "-",
        f"{100 * (means[SMART] - means['UA']):+.2f}",
        "-" if lead is None else f"{100 * lead:+.2f}",
        f"{ks} of {first['n_learners']}",
        _cell(found, EQ_7),
        _cell(found, LEARNED_VOTE),
        f"{best} {_cell(found, best)}",
        _cell(found, SINGLE),
        _cell(found, BRIEF_SINGLE),
    ]


def _accuracies(seeds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """By rule, of those that every seed has; one that is trained may have diverged in some."""
    common = [t for t in seeds[0]["accuracy"] if all(t in seed["accuracy"] for seed in seeds)]
    return {title: [seed["accuracy"][title] for seed in seeds] for title in common}


def _cell(found: Mapping[str, Sequence[float]], title: str) -> str:
    return mean_and_deviation(found[title]) if title in found else "-"
