"""The trials as a study of Optuna in a file, for `optuna-dashboard`, while the search runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from distcel.search.study import STATES, frozen_trial, quiet_optuna
from distcel.search.trials import TrialRecord
from distcel.tracking.records import Outcome

NAME = "optuna.journal"


class StudyFile:
    """A journal of Optuna that is begun anew, and then follows the records.

    While it is written, its lines are only added to, so that an open dashboard can read on.

    Args:
        path: the file; an earlier one is replaced.
        title: the name of the study.
        space: the distribution of each hyperparameter.
    """

    def __init__(self, path: Path, title: str, space: Mapping[str, BaseDistribution]) -> None:
        self.title, self.space = title, space
        for old in (path, path.with_name(f"{path.name}.lock")):  # the lock of a killed launch
            old.unlink(missing_ok=True)
        quiet_optuna()
        self.storage = JournalStorage(JournalFileBackend(str(path)))
        self._begin()

    def _begin(self) -> None:
        self.study_id = self.storage.create_new_study([StudyDirection.MAXIMIZE], self.title)
        self._written: dict[int, TrialRecord] = {}
        self._ids: dict[int, int] = {}

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Add what is new; where a trial began again, or failed in its refit, begin the study anew.

        Raises:
            OSError: the file cannot be written.
        """
        written = self._written
        if not all(_continues(r, written[r.number]) for r in records if r.number in written):
            self.storage.delete_study(self.study_id)
            self._begin()
        for record in records:
            if record.number in self._written:
                self._add_to(record)
            else:
                trial = _dated(frozen_trial(record.facts(), self.space), record)
                self._ids[record.number] = self.storage.create_new_trial(self.study_id, trial)
            self._written[record.number] = record

    def _add_to(self, record: TrialRecord) -> None:
        number = self._ids[record.number]
        before = self._written[record.number]
        for epoch in record.epochs[len(before.epochs) :]:
            accuracy = epoch.valid_accuracy
            self.storage.set_trial_intermediate_value(number, epoch.epoch, accuracy)
        if record.state != before.state:
            values = [record.valid_accuracy] if record.state == "COMPLETE" else None
            self.storage.set_trial_state_values(number, STATES[record.state], values)

    def finish(self, outcome: Outcome) -> None:
        """The search is done: nothing is left to write."""

    def abort(self) -> None:
        """The launch was stopped: the next one begins the file anew."""


def _continues(now: TrialRecord, before: TrialRecord) -> bool:
    """Whether the record is the earlier one, or what the earlier one has become."""
    same = now.params == before.params and now.epochs[: len(before.epochs)] == before.epochs
    return same and before.state in ("RUNNING", now.state)


def _dated(trial: FrozenTrial, record: TrialRecord) -> FrozenTrial:
    """The trial with when it began and ended on its worker, where it has an epoch."""
    if record.epochs:
        ended = datetime.fromtimestamp(record.epochs[-1].ended_ms / 1000, UTC)
        trial.datetime_start = ended - timedelta(seconds=record.seconds)
        trial.datetime_complete = ended if record.state != "RUNNING" else None
    return trial
