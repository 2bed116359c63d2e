"""The page that the benchmarks are written to, section by section."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def replaced(page: str, title: str, text: str) -> str:
    """The page with another text below one of its headings; everything else stays as it is.

    Raises:
        ValueError: the page has no such heading.
    """
    heading = f"\n## {title}\n"
    before, found, after = page.partition(heading)
    if not found:
        raise ValueError(f"{FILE} has no section {title!r}: add its heading")
    _, next_heading, rest = after.partition("\n## ")
    return f"{before}{heading}\n{text.strip()}\n{next_heading}{rest}"
