"""Tables and lists in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def bullets(points: Sequence[str]) -> str:
    """A list, one line a point."""
    return "\n".join(f"- {point}" for point in points)


def markdown(header: list[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A Markdown table with aligned columns; a row is its first cell and the others."""
    cells = [header, ["---"] * len(header), *[[name, *values] for name, values in rows]]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]  # of a class's name
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )
    return "\n".join(f"| {line} |" for line in lines)
