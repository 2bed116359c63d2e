"""The durable records of a search: one file a trial, from which everything else is rebuilt."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from distcel.experiment.errors import RunFailedError, require, require_choice
from distcel.experiment.types import SelectionParams
from distcel.storage.files import DamagedFileError, put_aside, read_record, write_record
from distcel.train.checkpoint import EpochResult

logger = logging.getLogger(__name__)

TrialState = Literal["RUNNING", "COMPLETE", "FAILED"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the run directory keeps it; `state` is RUNNING, COMPLETE or FAILED."""

    number: int
    params: SelectionParams
    state: TrialState
    epochs: tuple[EpochResult, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        whole = type(self.number) is int and self.number >= 0
        require(whole, "a whole number >= 0 as a trial's", self.number, "give its number")
        require(isinstance(self.reason, str), "a reason in words", self.reason, "give a text")
        require_choice("state", self.state, TrialState)
        epochs = [result.epoch for result in self.epochs]
        in_order = epochs == list(range(1, len(epochs) + 1))
        require(in_order, "epochs in their order", epochs, "give every epoch once")
        ended = self.state != "COMPLETE" or bool(epochs)
        require(ended, "an epoch of a trial that is complete", epochs, "give it")

    @property
    def seconds(self) -> float:
        """That its epochs took, on its worker."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def valid_accuracy(self) -> float:
        """Accuracy on the valid split after the last epoch that ran."""
        return self.epochs[-1].valid_accuracy


class NoCompleteTrialError(RunFailedError):
    """A search has nothing to choose from."""


class TrialStore:
    """The trials of one search, in memory and in `FOLDER/<number>.json`.

    A trial is on disk when it starts (RUNNING) and when it ends (COMPLETE or FAILED), whole or not
    at all. Its epochs in between are in memory alone; a killed trial runs again from its start.
    A damaged record is put aside, under its name with `.damaged`, and its trial is lost. Beside
    the records, `closed` says with how many trials the search ended, and again after more were
    added.
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
        self._closings: list[dict[str, int]] = []
        if self._closed.is_file():
            try:
                self._closings = _read_closings(self._closed)
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
        last = self._closings[-1] if self._closings else None
        if last is None or asked > last["asked"] or self.next_number() > last["next_number"]:
            closing = {
                "asked": max(asked, last["asked"]) if last else asked,
                "finished": len(self.finished()),
                "next_number": self.next_number(),
            }
            self._closings.append(closing)
            write_record(self._closed, {"closings": self._closings})

    def closed_after(self) -> list[int]:
        """How many trials had ended when the search was closed, and again after each addition."""
        counts, next_number = [], -1
        for closing in self._closings:
            if closing["next_number"] > next_number:
                counts.append(closing["finished"])
                next_number = closing["next_number"]
        return counts

    def wanted(self, asked: int) -> int:
        """How many trials the search is to have: those it was closed with, unless more are asked.

        A note that was damaged is made again: that it was there says that the test split was read.
        """
        if not self._closings and self._closed.with_name("closed.damaged").exists():
            self.close(asked)
        if not self._closings or asked > self._closings[-1]["asked"]:
            return asked
        return min(asked, self._closings[-1]["finished"])

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

    def begin(self, number: int, params: SelectionParams) -> None:
        """Keep a trial as running, without what an earlier attempt did."""
        self.keep(TrialRecord(number, params, "RUNNING"))

    def complete(self, number: int) -> None:
        """Acknowledge a trial: its record is on disk before its line is logged."""
        record = replace(self._records[number], state="COMPLETE")
        self.keep(record)
        p, n_epochs = record.params, len(record.epochs)
        point = f"k={p.k} epsilon={p.epsilon:.3g} m={p.m} lr={p.lr:.3g} {p.gradient} {p.vote}"
        accuracy = f"valid {record.valid_accuracy:.4f} ({n_epochs} epochs)"
        logger.info("trial %d: %s %s", number, accuracy, point)

    def fail(self, number: int, reason: str) -> None:
        """Keep why a trial failed; it is not tried again."""
        self.keep(replace(self._records[number], state="FAILED", reason=reason))
        logger.warning("trial %d: failed, %s", number, reason)

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
        mended = "once that is mended, a higher --num-samples adds trials"
        why = f"{'; '.join(reasons)}: {mended}" if reasons else "give it more time"
        raise NoCompleteTrialError(f"no trial of the search is complete: {why}")
    return max(complete, key=lambda record: (record.valid_accuracy, -record.number))


def first_params(records: list[TrialRecord], planned: SelectionParams) -> SelectionParams:
    """What the search began with: what is planned, unless a launch that had another began it."""
    return records[0].params if records and records[0].number == 0 else planned


def _read(path: Path) -> TrialRecord:
    content = read_record(path)
    try:
        params = SelectionParams.from_dict(content.pop("params"))
        epochs = tuple(EpochResult(**epoch) for epoch in content.pop("epochs"))
        record = TrialRecord(params=params, epochs=epochs, **content)
        if record.number == int(path.stem):
            return record
        raise ValueError(f"its number is {record.number}")
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(path, f"it is not this trial ({error})") from None


def _read_closings(path: Path) -> list[dict[str, int]]:
    closings = read_record(path).get("closings")
    known = {"asked", "finished", "next_number"}
    records = isinstance(closings, list) and all(isinstance(c, dict) for c in closings)
    if records and closings and all(set(closing) == known for closing in closings):
        return list(closings)
    raise DamagedFileError(path, "it does not say when the search was closed")
