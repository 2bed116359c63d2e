"""The pages of results: a page for each data set, and two tables of all reproductions.

Each reproduction is a `FOLDER/NAME/results.json` with its figures beside it.
`FOLDER/DATASET.md` and the tables in `FOLDER.md` are generated from these.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distcel.report import notes
from distcel.report.document import reproduction_body
from distcel.report.frame import Results, bullets, launches
from distcel.report.parts import reproduction_title
from distcel.report.results_tables import ResultsTables
from distcel.storage.files import write_atomically

logger = logging.getLogger(__name__)

CONTROLS_TABLE, ALL_TABLE = "table of the controls", "table of all"
_FILES = ("figure2.svg", "pareto.svg", "results.json")


def write_pages(folder: Path) -> None:
    """Generate the page of each data set and the tables of all anew.

    A folder whose `results.json` cannot be read, or is of another version, is left out with a
    warning.

    Args:
        folder: the folder of the reproductions. The tables of all are in the file beside it,
            `FOLDER.md`, each between two comments; the rest of that file stays.
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
    tables = ResultsTables()
    sections: dict[str, list[str]] = {}
    for name, results in _reproductions(folder).items():
        try:
            title, dataset = _title(results), launches(results)[0]["dataset"]
            section = f"## {title}\n\n{reproduction_body(results, figures=name)}"
            link = f"[{title}]({folder.name}/{dataset}.md)"
            tables.add(link, results)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            logger.warning("%s/results.json is of another version: %r", folder / name, error)
            continue
        sections.setdefault(dataset, []).append(section)
        by_dataset.setdefault(dataset, {})[name] = results
    for dataset, shown in by_dataset.items():
        _write_text(
            folder / f"{dataset}.md", _page(dataset, list(shown.values()), sections[dataset])
        )
    index = folder.with_suffix(".md")
    text = index.read_text() if index.is_file() else "# Results\n"
    text = _with_block(text, CONTROLS_TABLE, tables.with_controls())
    text = _with_block(text, ALL_TABLE, tables.of_all())
    _write_text(index, text)


def _reproductions(folder: Path) -> dict[str, Any]:
    """The results that can be read, sorted by name: `mnist-quick` comes before its variants."""
    found = {}
    for path in sorted(folder.glob("*/results.json"), key=lambda path: path.parent.name):
        try:
            found[path.parent.name] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            logger.warning("%s cannot be read: %s", path, error)
    return found


def _title(results: Results) -> str:
    """The reproduction's title, and which version of distcel measured it if not this one.

    So the results of two versions can be beside each other.
    """
    return reproduction_title(results) + _other_version(results)


def _other_version(results: Results) -> str:
    measured_by = launches(results)[0]["versions"]["distcel"]
    return "" if measured_by == version("distcel") else f", distcel {measured_by}"


def _page(dataset: str, shown: Sequence[Results], sections: Sequence[str]) -> str:
    heading = (
        f"# Results: {dataset}\n\nGenerated from the `results.json` of each section. "
        "[All data sets](../results.md); [what the tables show](#notes)."
    )
    by_version: dict[str, list[Results]] = {}
    for results in shown:
        by_version.setdefault(_other_version(results), []).append(results)
    parts = [section.strip() for section in sections]
    for suffix, found in sorted(by_version.items()):  # a rule may be another one in each
        title = f"## Notes{suffix}" if len(by_version) > 1 else "## Notes"
        parts.append(f"{title}\n\n{bullets(notes.of_reproductions(found))}")
    return "\n\n".join([heading, *parts]) + "\n"


def block(name: str) -> tuple[str, str]:
    """The comments before and after a generated part of a page that is written by hand."""
    command = "distcel report --pages docs/results"
    return f"<!-- The {name} is generated: `{command}`. -->", f"<!-- End of the {name}. -->"


def _with_block(text: str, name: str, content: str) -> str:
    """The text with the content between the block's comments, or at its end if it has none."""
    begin, end = block(name)
    head, found, rest = text.partition(begin)
    if not found:
        head, rest = f"{text.rstrip()}\n\n", f"{end}\n"
    return f"{head}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"
