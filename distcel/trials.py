"""The durable records of a search: one file a trial, from which everything else is rebuilt."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path

from distcel.checks import RunFailedError
from distcel.storage import DamagedFileError, put_aside, read_record, write_record
from distcel.types import EpochResult, SelectionParams, TrialRecord


class NoCompleteTrialError(RunFailedError):
    """A search has nothing to choose from."""


class TrialStore:
    """The trials of one search, in memory and in `FOLDER/<number>.json`.

    A trial is on disk when it starts (RUNNING) and when it ends (COMPLETE or FAILED), whole or not
    at all. Its epochs in between are in memory alone; a killed trial runs again from its start.
    A damaged record is put aside, under its name with `.damaged`, and its trial is lost. Beside
    the records, `closed` says with how many trials the search ended, each time that it did.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._closed = folder / "closed"
        self._lock = threading.Lock()
        self._records: dict[int, TrialRecord] = {}
        for path in sorted(folder.glob("[0-9]*.json")):
            try:
                record = _read(path)
                self._records[record.number] = record
            except DamagedFileError as error:
                put_aside(error)

    def __getitem__(self, number: int) -> TrialRecord:
        return self._records[number]

    def __contains__(self, number: int) -> bool:
        return number in self._records

    def snapshot(self) -> list[TrialRecord]:
        """Every trial as it now stands, by number; safe to call from any thread."""
        with self._lock:
            return [self._records[number] for number in sorted(self._records)]

    def finished(self) -> list[TrialRecord]:
        """The trials that ended, COMPLETE or FAILED."""
        return [record for record in self.snapshot() if record.state != "RUNNING"]

    def running(self) -> list[TrialRecord]:
        """The trials that run; after opening the store, those that an earlier launch left."""
        return [record for record in self.snapshot() if record.state == "RUNNING"]

    @property
    def seconds(self) -> float:
        """That the epochs of all trials took, each on its own worker."""
        return sum(record.seconds for record in self.snapshot())

    def close(self, asked: int) -> None:
        """Note, before the test split is read, with how many of the asked trials the search ended.

        From then on `wanted` asks for no more unless more are asked for.
        """
        times = self._times_closed(asked)
        if not times or asked > times[-1]["asked"]:
            times.append({"asked": asked, "finished": len(self.finished())})
            write_record(self._closed, {"times": times})

    def closed_after(self) -> list[int]:
        """How many trials had ended whenever the search was closed, the last time last."""
        return [closed["finished"] for closed in self._times_closed(asked=0)]

    def wanted(self, asked: int) -> int:
        """How many trials the search is to have: those it was closed with, unless more are asked.

        A damaged note is put aside: that it was there says that the test split was read.
        """
        times = self._times_closed(asked)
        if not times or asked > times[-1]["asked"]:
            return asked
        return min(asked, times[-1]["finished"])

    def _times_closed(self, asked: int) -> list[dict[str, int]]:
        if not self._closed.is_file():
            return []
        try:
            times: list[dict[str, int]] = read_record(self._closed)["times"]
        except DamagedFileError as error:
            put_aside(error)
            times = [{"asked": asked, "finished": len(self.finished())}]
            write_record(self._closed, {"times": times})
        return times

    def next_number(self) -> int:
        """The number after the highest one, those of damaged records included."""
        damaged = (path.name.partition(".")[0] for path in self.folder.glob("[0-9]*.damaged"))
        numbers = [int(name) for name in damaged if name.isdecimal()]
        return max([*self._records, *numbers], default=-1) + 1

    def add_epoch(self, number: int, result: EpochResult) -> None:
        """Add an epoch, in memory; of a trial that began again, in place of what it had."""
        record = self._records[number]
        epochs = (*record.epochs[: result.epoch - 1], result)
        with self._lock:
            self._records[number] = replace(record, epochs=epochs)

    def keep(self, record: TrialRecord) -> None:
        """Put the record on disk; one that is COMPLETE or FAILED is never lost or repeated."""
        write_record(self.folder / f"{record.number:05d}.json", asdict(record))
        with self._lock:
            self._records[record.number] = record


def best_trial(records: list[TrialRecord]) -> TrialRecord:
    """The complete trial with the highest last validation accuracy, the earliest of equals.

    Raises:
        NoCompleteTrialError: no trial is complete.
    """
    complete = [r for r in records if r.state == "COMPLETE" and r.epochs]
    if not complete:
        reasons = {record.reason for record in records if record.reason}
        why = "; ".join(reasons) or "give it more time"
        raise NoCompleteTrialError(f"no trial of the search is complete: {why}")
    return max(complete, key=lambda record: (record.valid_accuracy, -record.number))


def _read(path: Path) -> TrialRecord:
    content = read_record(path)
    try:
        params = SelectionParams(**content.pop("params"))
        epochs = tuple(EpochResult(**epoch) for epoch in content.pop("epochs"))
        record = TrialRecord(params=params, epochs=epochs, **content)
        if record.number == int(path.stem):
            return record
        raise ValueError(f"its number is {record.number}")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"it is not this trial ({error})") from None
