"""The report of a launch or of a reproduction as one HTML file that loads nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from distcel.report import charts, launch_page, notes, provenance
from distcel.report.frame import Results
from distcel.report.pareto import cost_points
from distcel.report.parts import (
    Chart,
    Commands,
    Figure,
    Gallery,
    Notes,
    Part,
    Table,
    further_parts,
    launch_title,
    papers_parts,
    reproduction_title,
)
from distcel.report.sentences import launch_result, reproduction_result
from distcel.storage.files import write_atomically

_CAPTION = re.compile(r"((?:Table|Figure) \w+), (.*)|([^:]+): (.*)", re.DOTALL)
_KINDS = {
    str: "text",
    Table: "table",
    Chart: "chart",
    Gallery: "gallery",
    Commands: "commands",
    Notes: "notes",
}


@dataclass
class Section:
    """A heading with what is below it.

    Attributes:
        id: its anchor.
        heading: the heading, the link to it as well.
        caption: what else its first part's caption says.
        blocks: the parts with their kinds.
    """

    id: str
    heading: str
    caption: str = ""
    blocks: list[tuple[str, Any]] = field(default_factory=list)


def write_page(folder: Path) -> Path:
    """Write `report.html` into the folder of a run or of a reproduction, from its JSON files.

    Returns:
        Path: the page.

    Raises:
        OSError: a file is missing, or the page cannot be written.
        ValueError: a file is no JSON. Content of another version raises what it leads to.
    """
    results = _read(folder / "results.json")
    if "seeds" in results:
        text = reproduction_page(results)
    else:
        comparison = folder / "comparison.json"
        compared = _read(comparison) if comparison.is_file() else None
        if compared and compared["best"] != results["best"]:  # from before the last launch
            compared = None
        text = launch_page_text(results, _read(folder / "details.json"), compared)
    path = folder / "report.html"
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def launch_page_text(results: Results, details: Results, comparison: Results | None) -> str:
    """The page of one launch.

    Args:
        results: the content of its `results.json`.
        details: that of its `details.json`.
        comparison: that of its `comparison.json`, if it was compared.
    """
    parts = launch_page.parts(results, details, comparison)
    return _rendered(launch_title(results), launch_result(results), parts)


def reproduction_page(results: Results) -> str:
    """The page of a reproduction, from the content of its `results.json`."""
    drawn = {
        "figure2": lambda: charts.figure_2(results),
        "pareto": lambda: charts.accuracy_over_cost(cost_points(results)),
    }
    _, *papers = papers_parts(results)  # the command is among the last parts
    parts: list[Part] = [
        Chart(part.caption, drawn[part.name](), part.alt) if isinstance(part, Figure) else part
        for part in [*papers, *further_parts(results)]
    ]
    parts += provenance.of_reproduction(results)
    parts.append(Notes("Notes", notes.of_reproductions([results])))
    sentence = reproduction_result(results)
    return _rendered(reproduction_title(results), sentence, parts)


def _rendered(title: str, sentence: str, parts: Sequence[Part]) -> str:
    return _TEMPLATE.render(
        title=title, sentence=sentence, sections=_sections(parts), plotly=Markup(get_plotlyjs())
    )


def _sections(parts: Sequence[Part]) -> list[Section]:
    """The parts below headings; one with a caption begins a section."""
    sections = [Section("result", "Result")]
    for part in parts:
        caption = "" if isinstance(part, str) else part.caption
        if caption:
            found = _CAPTION.fullmatch(caption)
            heading, rest = (x for x in found.groups() if x is not None) if found else (caption, "")
            sections.append(Section(f"section-{len(sections)}", heading, rest))
        sections[-1].blocks.append((_KINDS[type(part)], part))
    return [section for section in sections if section.blocks]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes())
    return content


def _inline(text: str) -> Markup:
    """The sentence as HTML: Markdown's code and emphasis, and nothing else of it."""
    found = str(escape(text))
    found = re.sub(r"`([^`]+)`", r"<code>\1</code>", found)
    return Markup(re.sub(r"\*([^*\s][^*]*)\*", r"<em>\1</em>", found))


def _data(figure: Any) -> Markup:
    """The figure as JSON inside a script element, which no `<` of a name may end."""
    return Markup(figure.to_json().replace("<", "\\u003c"))


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("distcel.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(inline=_inline, data=_data, percent=lambda x: f"{100 * x:.1f} %")
    return found


# Read when this is imported: the package may be edited during the hours of a run.
_TEMPLATE = _environment().get_template("page.html.jinja")
