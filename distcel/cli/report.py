"""Lay out the report of a run or of a reproduction anew, from its JSON files alone.

distcel report runs/digits-quick-seed0              a search
distcel report runs/reproduce-digits-quick          a reproduction
distcel report runs/digits-quick-seed0 --open       the same as a page with figures, in the browser
distcel report --pages docs/results                 all pages of that folder, from their JSON
"""

from __future__ import annotations

import argparse
import json
import logging
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcel.cli.output import put, show_log
from distcel.experiment.errors import invalid, require

logger = logging.getLogger(__name__)

SUMMARY = "lay out a report anew, as text or as a page"


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
        "--open", action="store_true", help="write report.html anew and open it in a browser (off)"
    )
    flags.add_argument(
        "--pages", type=Path, metavar="DIR", help="write all pages of this folder anew (none)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report, open it as a page, or write the pages; returns the exit status.

    Raises:
        InvalidInputError: there is no JSON that this version can lay out.
    """
    folder, pages = arguments.folder, arguments.pages
    if (folder is None) == (pages is None):
        raise invalid("RUN or --pages DIR", "both" if pages else "neither", "give one of them")
    show_log(on_stderr=True)
    if pages is not None:
        require(not arguments.open, "--open beside a RUN", "--pages", "leave one of them out")
        require(pages.is_dir(), "--pages that is a folder", str(pages), "give docs/results, say")

        from distcel.report.results_page import write_pages

        write_pages(pages)
        return 0

    results = _results(folder)
    with _of_this_version(folder):
        if arguments.open:
            _open_page(folder)
        else:
            from distcel.report.document import launch_report, reproduction_report

            lay_out = reproduction_report if "seeds" in results else launch_report
            put(lay_out(results).rstrip("\n"))
    return 0


def _open_page(folder: Path) -> None:
    """Write the page, print its path, and open it where there is a browser."""
    from distcel.report.page import write_page

    page = write_page(folder).absolute()
    put(str(page))
    if not webbrowser.open(page.as_uri()):
        logger.info("there is no browser here: open the file in one elsewhere")


@contextmanager
def _of_this_version(folder: Path) -> Iterator[None]:
    """Raise InvalidInputError for JSON that another version wrote, or that is missing."""
    remedy = "repeat the command that made it"
    try:
        yield
    except FileNotFoundError as error:
        found = f"{str(folder)!r} without {Path(error.filename).name}"
        raise invalid("the files of this version", found, remedy) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        found = f"{str(folder / 'results.json')!r} ({type(error).__name__}: {error})"
        raise invalid("a results.json as this version writes it", found, remedy) from error


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
