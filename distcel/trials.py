"""The durable records of a search: one file a trial, from which everything else is rebuilt."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path

from distcel.storage import read_json, write_json
from distcel.types import EpochResult, SelectionParams, TrialRecord


class TrialStore:
    """The trials of one search, in memory and in `FOLDER/<number>.json`.

    A trial is on disk when it starts (RUNNING) and when it ends (COMPLETE or FAILED), whole or not
    at all. Its epochs in between are in memory alone; a killed trial runs again from its start.

    Raises:
        DamagedFileError: the bytes of a record have changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        records = [_from_json(read_json(path)) for path in sorted(folder.glob("[0-9]*.json"))]
        self._records = {record.number: record for record in records}

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def snapshot(self) -> list[TrialRecord]:
        """Every trial as it now stands, by number; safe to call from any thread."""
        with self._lock:
            return [self._records[number] for number in sorted(self._records)]

    def finished(self) -> list[TrialRecord]:
        """The trials that ended, COMPLETE or FAILED."""
        return [record for record in self.snapshot() if record.state != "RUNNING"]

    def interrupted(self) -> list[int]:
        """Numbers of the trials that run; after opening the store: that an earlier launch left."""
        return [record.number for record in self.snapshot() if record.state == "RUNNING"]

    def next_number(self) -> int:
        """The number after the highest one."""
        return max(self._records, default=-1) + 1

    def start(self, record: TrialRecord) -> None:
        """Keep a RUNNING trial without epochs, in place of what it had before it was killed."""
        self._keep(record)

    def add_epoch(self, number: int, result: EpochResult) -> None:
        """Add an epoch, in memory."""
        record = self._records[number]
        with self._lock:
            self._records[number] = replace(record, epochs=(*record.epochs, result))

    def finish(self, record: TrialRecord) -> None:
        """Keep a COMPLETE or FAILED trial: it is never lost or repeated from here on."""
        self._keep(record)

    def _keep(self, record: TrialRecord) -> None:
        write_json(self.folder / f"{record.number:05d}.json", asdict(record))
        with self._lock:
            self._records[record.number] = record


def best_trial(records: list[TrialRecord]) -> TrialRecord:
    """The complete trial with the highest last validation accuracy, the earliest of equals.

    Raises:
        RuntimeError: no trial is complete.
    """
    complete = [r for r in records if r.state == "COMPLETE" and r.epochs]
    if not complete:
        reasons = {record.reason for record in records if record.reason}
        raise RuntimeError(
            f"no trial of the search is complete: {'; '.join(reasons) or 'none ran'}"
        )
    return max(complete, key=lambda record: (record.valid_accuracy, -record.number))


def _from_json(content: dict[str, object]) -> TrialRecord:
    facts: dict[str, object] = dict(content)
    params = SelectionParams(**facts.pop("params"))  # type: ignore[arg-type]
    epochs = tuple(EpochResult(**epoch) for epoch in facts.pop("epochs"))  # type: ignore[attr-defined]
    return TrialRecord(params=params, epochs=epochs, **facts)  # type: ignore[arg-type]
