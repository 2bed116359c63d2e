"""The ledger of a data set: every reading of a test split, in a file beside the runs.

A split that many results were read from is one that choices may have been fitted to. The file has
one JSON object a line, and lines are only ever appended.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from distcel.experiment.errors import invalid


def ledger_path(run_dir: Path, dataset: str) -> Path:
    """The ledger of a data set, beside the run directory."""
    return run_dir.parent / f"test-readings-{dataset}.jsonl"


def require_ledger(path: Path) -> None:
    """Raise InvalidInputError unless readings can be appended: found now, not after the search."""
    try:
        path.open("ab").close()
    except OSError as error:
        found = f"{str(path)!r} ({error.strerror})"
        remedy = "give a --run-dir in a folder that can be written"
        raise invalid("a ledger beside the run directory", found, remedy) from None


def record_reading(path: Path, split: str, reader: dict[str, Any]) -> int:
    """Append a reading of the split to the ledger, with the time.

    Args:
        path: the ledger.
        split: identifies the test split.
        reader: what reads it, for people.

    Returns:
        int: how often the split has been read, this time included. A line that cannot be parsed
        counts, since it may have been a reading of this split.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"date": now, "split": split, **reader})
    try:
        with path.open("a+b") as file:
            file.write(f"{line}\n".encode())  # one write: lines of two processes do not mix
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            lines = file.read().splitlines()
    except OSError as error:
        error.filename = str(path)
        raise
    return sum(_may_be_of(split, line) for line in lines)


def _may_be_of(split: str, line: bytes) -> bool:
    try:
        return bool(json.loads(line)["split"] == split)
    except (ValueError, LookupError, TypeError):
        return bool(line.strip())
