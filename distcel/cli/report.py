"""Lay out the report of a run or of a reproduction anew, from its results.json alone.

distcel report runs/digits-quick-seed0              a search
distcel report runs/reproduce-digits-quick          a reproduction
distcel report --pages docs/results                 all pages of that folder, from their JSON
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from distcel.cli.output import put, show_log
from distcel.experiment.errors import invalid, require

SUMMARY = "lay out a report anew from results.json"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `report`."""
    flags.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run directory, or the folder of a reproduction",
    )
    flags.add_argument(
        "--pages", type=Path, metavar="DIR", help="write all pages of this folder anew (none)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report, or write the pages; returns the exit status.

    Raises:
        InvalidInputError: there is no results.json that this version can lay out.
    """
    folder, pages = arguments.folder, arguments.pages
    if (folder is None) == (pages is None):
        raise invalid("RUN or --pages DIR", "both" if pages else "neither", "give one of them")
    show_log(on_stderr=True)
    if pages is not None:
        require(pages.is_dir(), "--pages that is a folder", str(pages), "give docs/results, say")

        from distcel.report.results_page import write_pages

        write_pages(pages)
        return 0

    from distcel.report.document import launch_report, reproduction_report

    results = _results(folder)
    lay_out = reproduction_report if "seeds" in results else launch_report
    try:
        text = lay_out(results)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        found = f"{str(folder / 'results.json')!r} ({type(error).__name__}: {error})"
        remedy = "repeat the command that made it"
        raise invalid("a results.json as this version writes it", found, remedy) from error
    put(text.rstrip("\n"))
    return 0


def _results(folder: Path) -> dict[str, Any]:
    path = folder / "results.json"
    rule, remedy = "a folder with a results.json", "give a run that is finished"
    try:
        results = json.loads(path.read_bytes())
    except OSError as error:
        raise invalid(rule, f"{str(folder)!r} ({error.strerror})", remedy) from None
    except (ValueError, RecursionError):
        raise invalid(rule, f"{str(path)!r}, which is no JSON", remedy) from None
    is_object = isinstance(results, dict)
    require(is_object, rule, f"{path} without an object", remedy)
    content: dict[str, Any] = results
    return content
