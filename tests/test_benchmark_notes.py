"""BENCHMARKS.md is what its command writes, to the last part that is written by hand."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_notes_are_the_last_part_of_the_benchmarks() -> None:
    notes = (ROOT / "tests" / "benchmarks" / "NOTES.md").read_text()
    assert (ROOT / "BENCHMARKS.md").read_text().endswith(f"\n{notes}")
