"""The benchmarks' page: a new measurement replaces its section, the summary repeats the tables."""

from __future__ import annotations

import re

import pytest

from benchmarks.page import FILE, replaced


def test_a_section_is_replaced_and_the_others_stay() -> None:
    page = (
        "# Page\n\n## Summary\n\nby hand\n\n## Scale\n\nold\n\n### Part\n\nold\n\n## Notes\n\nend\n"
    )
    new = "# Page\n\n## Summary\n\nby hand\n\n## Scale\n\nnew\n\n## Notes\n\nend\n"
    assert replaced(page, "Scale", "new\n") == new
    assert replaced(new, "Notes", "last").endswith("## Notes\n\nlast\n")
    with pytest.raises(ValueError, match="no section 'Scales'"):
        replaced(page, "Scales", "new")


def test_every_section_with_tables_names_its_command() -> None:
    _, _, *sections, notes = FILE.read_text().split("\n## ")
    assert len(sections) == 14
    for section in sections:
        name = re.search(r"\n\n`python -m benchmarks\.(\w+)[^`]*`, ", section)
        assert name
        assert (FILE.parents[1] / "benchmarks" / f"{name[1]}.py").is_file()
    assert "python -m" not in notes.split("\n\n")[1]


def test_what_the_summary_has_measured_is_in_the_tables() -> None:
    _, summary, *sections = FILE.read_text().split("\n## ")
    tables = set(re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", "\n".join(sections)))
    for row in summary.splitlines():
        measured = row.split("|")[3] if row.startswith("| ") else ""
        for number in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", measured.replace("CIFAR-10", "")):
            assert number in tables or number == "2013", row
