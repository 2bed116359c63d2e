"""The durable records of a search: one file a trial, from which everything else is rebuilt."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from distcel.execute.progress import Trial, with_event
from distcel.experiment.errors import RunFailedError, require, require_choice
from distcel.experiment.types import SelectionParams
from distcel.storage.files import DamagedFileError, put_aside, read_record, write_record
from distcel.train.checkpoint import EpochResult

logger = logging.getLogger(__name__)

TrialState = Literal["RUNNING", "COMPLETE", "FAILED"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the run directory keeps it.

    Attributes:
        number: counted from 0.
        params: its hyperparameters.
        state: RUNNING, COMPLETE or FAILED.
        epochs: the measurements of its epochs so far.
        reason: why it failed.
        worker: the worker of its last epoch, as `describe_worker` describes it there.
    """

    number: int
    params: SelectionParams
    state: TrialState
    epochs: tuple[EpochResult, ...] = ()
    reason: str = ""
    worker: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = type(self.number) is int and self.number >= 0
        require(whole, "a whole number >= 0 as number", self.number, "give the trial's number")
        require(isinstance(self.reason, str), "a text as reason", self.reason, "give a text")
        require_choice("state", self.state, TrialState)
        epochs = [result.epoch for result in self.epochs]
        in_order = epochs == list(range(1, len(epochs) + 1))
        require(in_order, "epochs in order", epochs, "give every epoch once")
        ended = self.state != "COMPLETE" or bool(epochs)
        require(ended, "at least one epoch of a complete trial", epochs, "give its epochs")

    @property
    def seconds(self) -> float:
        """Duration of its epochs on its worker."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def valid_accuracy(self) -> float:
        """Accuracy on the valid split after the last epoch that ran."""
        return self.epochs[-1].valid_accuracy

    def facts(self) -> dict[str, Any]:
        """What `details.json` has of a trial, the accuracies on valid being those of its epochs."""
        return {
            "number": self.number,
            "params": self.params.as_dict(),
            "state": self.state,
            "valid_accuracies": [epoch.valid_accuracy for epoch in self.epochs],
            "seconds": self.seconds,
            "reason": self.reason,
        }

    def progress(self) -> Trial:
        """The trial as an event of the run."""
        accuracy = self.valid_accuracy if self.epochs else None
        return Trial(self.number, self.state, len(self.epochs), accuracy, self.params.as_dict())


class NoCompleteTrialError(RunFailedError):
    """No trial of a search is complete."""


class TrialStore:
    """The trials of one search, in memory and in `FOLDER/<number>.json`.

    A record is written when its trial starts (RUNNING) and ends (COMPLETE or FAILED), whole or not
    at all. Epochs in between are in memory alone, so a killed trial runs again from its start.
    A damaged record is put aside, under its name with `.damaged`, and its trial is lost. The file
    `closed` beside the records has the number of trials with which the search ended, one entry for
    each time that it ended.

    Attributes:
        n_wanted: the number of trials that the search has in the end, for the log; 0 before it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.n_wanted = folder, 0
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
        """The current records of all trials, by number; safe to call from any thread."""
        with self._lock:
            return [self._records[number] for number in sorted(self._records)]

    def finished(self) -> list[TrialRecord]:
        """The trials that have ended, COMPLETE or FAILED."""
        return [record for record in self.snapshot() if record.state != "RUNNING"]

    def running(self) -> list[TrialRecord]:
        """The trials that run; in a newly opened store, those that were interrupted."""
        return [record for record in self.snapshot() if record.state == "RUNNING"]

    @property
    def seconds(self) -> float:
        """Duration of the epochs of all trials, each on its own worker."""
        return sum(record.seconds for record in self.snapshot())

    def close(self, num_samples: int) -> None:
        """Record, before the test split is read, with how many of `num_samples` trials it ended.

        From then on `wanted` returns no more than these, unless `num_samples` is raised.
        """
        last = self._closings[-1] if self._closings else None
        if last is None or num_samples > last["asked"] or self.next_number() > last["next_number"]:
            closing = {
                "asked": max(num_samples, last["asked"]) if last else num_samples,
                "finished": len(self.finished()),
                "next_number": self.next_number(),
            }
            self._closings.append(closing)
            write_record(self._closed, {"closings": self._closings})

    def closed_after(self) -> list[int]:
        """The number of trials that had ended at each closing that followed new trials."""
        counts, next_number = [], -1
        for closing in self._closings:
            if closing["next_number"] > next_number:
                counts.append(closing["finished"])
                next_number = closing["next_number"]
        return counts

    def wanted(self, num_samples: int) -> int:
        """The number of trials that the search should have.

        It is that of the last closing, unless `num_samples` was raised since. A damaged file of
        closings is written again: its existence shows that the test split was read.
        """
        if not self._closings and self._closed.with_name("closed.damaged").exists():
            self.close(num_samples)
        if not self._closings or num_samples > self._closings[-1]["asked"]:
            return num_samples
        return min(num_samples, self._closings[-1]["finished"])

    def next_number(self) -> int:
        """The number after the highest one, including those of damaged records."""
        damaged = (path.name.partition(".")[0] for path in self.folder.glob("[0-9]*.damaged"))
        numbers = [int(name) for name in damaged if name.isdecimal()]
        return max([*self._records, *numbers], default=-1) + 1

    def add_epoch(
        self, number: int, result: EpochResult, worker: Mapping[str, str], n_samples: int
    ) -> None:
        """Add an epoch in memory; it replaces the same and later epochs of an earlier attempt.

        Args:
            number: the trial's.
            result: the epoch.
            worker: where it was trained, as `describe_worker` describes it there.
            n_samples: number of samples that it was trained on, for the run's event.
        """
        record = self._records[number]
        epochs = (*record.epochs[: result.epoch - 1], result)
        with self._lock:
            self._records[number] = record = replace(record, epochs=epochs, worker=worker)
        event = with_event(replace(record.progress(), n_samples=n_samples))
        accuracy = result.valid_accuracy
        logger.debug("trial %d: epoch %d, valid %.4f", number, result.epoch, accuracy, extra=event)

    def begin(self, number: int, params: SelectionParams) -> None:
        """Record a trial as running, without epochs of an earlier attempt."""
        record = TrialRecord(number, params, "RUNNING")
        self.keep(record)
        logger.debug("trial %d: begins", number, extra=with_event(record.progress()))

    def complete(self, number: int) -> None:
        """Record a trial as complete; the record is on disk before the line is logged."""
        record = replace(self._records[number], state="COMPLETE")
        self.keep(record)
        p, n_epochs = record.params, len(record.epochs)
        point = f"k={p.k} epsilon={p.epsilon:.3g} m={p.m} lr={p.lr:.3g} {p.gradient} {p.vote}"
        accuracy = f"valid {record.valid_accuracy:.4f} ({n_epochs} epochs)"
        done = f", {len(self.finished())}/{self.n_wanted} trials" if self.n_wanted else ""
        event = with_event(record.progress())
        logger.info("trial %d: %s %s%s", number, accuracy, point, done, extra=event)

    def fail(self, number: int, reason: str) -> None:
        """Record a trial as failed, with the reason; it is not repeated."""
        record = replace(self._records[number], state="FAILED", reason=reason)
        self.keep(record)
        event = with_event(record.progress())
        logger.warning("trial %d: failed, %s", number, reason, extra=event)

    def keep(self, record: TrialRecord) -> None:
        """Write the record to disk; a COMPLETE or FAILED trial is never lost or repeated."""
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
        remedy = "remove the cause and raise num_samples, which adds trials"
        why = f"{'; '.join(reasons)}: {remedy}" if reasons else "give it more time"
        raise NoCompleteTrialError(f"no trial of the search is complete: {why}")
    return max(complete, key=lambda record: (record.valid_accuracy, -record.number))


def first_params(records: list[TrialRecord], planned: SelectionParams) -> SelectionParams:
    """The parameters of trial 0: the planned ones, unless an earlier launch began with others."""
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
    raise DamagedFileError(path, "it has no closings of the search")
