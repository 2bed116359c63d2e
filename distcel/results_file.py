"""A Markdown file of several reproductions: a section each and, before them, all on one page."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distcel.checks import RunFailedError
from distcel.learned_vote import LEARNED_VOTE
from distcel.markdown import markdown
from distcel.measures import LEARNERS, ORACLE, SMART
from distcel.outcomes import mean_and_deviation
from distcel.prepare import run_title
from distcel.storage import write_atomically
from distcel.trained_rules import BRIEF_SINGLE, FIRST_POINT, SINGLE

SUMMARY = "All sections"
_OWN_COLUMN = (SMART, FIRST_POINT, LEARNED_VOTE, SINGLE, BRIEF_SINGLE)
_NO_RIVAL = (*_OWN_COLUMN, ORACLE, LEARNERS)
_CAPTION = (
    "Accuracy in % on the test split, mean ± standard deviation over the seeds; k is what each "
    "seed's search chose. The best other rule is that of Table 4's which has the highest mean on "
    "the test split, a choice that favours it over all the others."
)


def put_section(file: Path, report_folder: Path, name: str) -> None:
    """Put a report into the file as the section of its title, and sum all sections up.

    Args:
        file: Markdown, made where it is not there yet.
        report_folder: where `reproduction.write` left the report.
        name: of the section's folder, in `figures` beside the file, for its figures and its
            results.json.

    Raises:
        RunFailedError: what lies in another section's folder is no results.json.
    """
    figures = file.parent / "figures"
    for source in [*report_folder.glob("*.svg"), report_folder / "results.json"]:
        _copy(source, figures / name / source.name)
    heading, report = (report_folder / "report.md").read_text().split("\n", 1)
    title, body = heading.removeprefix("# "), report.replace("](./", f"](figures/{name}/")
    text = file.read_text() if file.is_file() else "# Results\n"
    head, *parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    sections = list(zip(parts[::2], parts[1::2], strict=True))
    sections = [section for section in sections if section[0] != SUMMARY]
    headings = [heading for heading, _ in sections]
    place = headings.index(title) if title in headings else len(sections)
    sections[place : place + 1] = [(title, body)]
    if summed := _summary([heading for heading, _ in sections], figures):
        sections.insert(0, (SUMMARY, summed))
    titled = [f"## {heading}\n\n{body.strip()}" for heading, body in sections]
    content = "\n\n".join([head.strip(), *titled]) + "\n"
    write_atomically(file, lambda out: out.write(content.encode()))


def _copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    write_atomically(target, lambda file: file.write(content))


def _summary(headings: Sequence[str], figures: Path) -> str:
    """A row for each section whose results are there; empty for less than two."""
    seeds_by_title = dict(_seeds_with_title(path) for path in figures.glob("*/results.json"))
    rows = [(title, _row(seeds_by_title[title])) for title in headings if title in seeds_by_title]
    if len(rows) < 2:
        return ""
    header = [
        *("", "seeds", SMART, "paper", f"{SMART} minus UA", "paper", "k", FIRST_POINT),
        *(LEARNED_VOTE, "best other rule", SINGLE, BRIEF_SINGLE),
    ]
    return f"{_CAPTION}\n\n{markdown(header, rows)}"


def _seeds_with_title(path: Path) -> tuple[str, list[Mapping[str, Any]]]:
    try:
        seeds = json.loads(path.read_text())["seeds"]
        first = seeds[0]["results"]
        names = ("dataset", "preset", "selector_split", "fixed")
        return run_title(*(first[name] for name in names)), seeds
    except (ValueError, KeyError, IndexError, TypeError) as error:
        reason = f"no results.json of reproduce.py ({error!r}): remove it"
        raise RunFailedError(f"{path}: {reason}") from None


def _row(seeds: Sequence[Mapping[str, Any]]) -> list[str]:
    found = _accuracies(seeds)
    means = {title: statistics.mean(values) for title, values in found.items()}
    best = max((title for title in means if title not in _NO_RIVAL), key=means.__getitem__)
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
        _cell(found, FIRST_POINT),
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
