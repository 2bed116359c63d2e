"""The study in a file, as `optuna-dashboard` reads it while it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from distcel.search.trials import TrialRecord
from distcel.tracking.live import LiveUpdates
from distcel.tracking.study_file import NAME, StudyFile
from tests.tracking.test_mlflow import PARAMS, epochs

SPACE: dict[str, BaseDistribution] = {
    **{name: CategoricalDistribution([value]) for name, value in PARAMS.as_dict().items()},
    "lr": FloatDistribution(0.1, 1.0),
}
TITLE = "digits, seed 0"


def begin(path: Path) -> StudyFile:
    return StudyFile(path, TITLE, SPACE)


def reader(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def shown(storage: JournalStorage) -> list[tuple[TrialState, float | None, dict[int, float]]]:
    trials = optuna.load_study(study_name=TITLE, storage=storage).trials
    return [(t.state, t.value if t.values else None, t.intermediate_values) for t in trials]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def test_a_reader_sees_every_epoch_and_the_file_is_only_added_to(path: Path) -> None:
    study = begin(path)
    dashboard, before = reader(path), path.read_bytes()
    first = TrialRecord(0, PARAMS, "COMPLETE", epochs(2))
    for records, expected in (
        ([first], []),
        ([first, TrialRecord(1, PARAMS, "RUNNING")], [(TrialState.RUNNING, None, {})]),
        (
            [
                first,
                TrialRecord(1, PARAMS, "RUNNING", epochs(3)),
                TrialRecord(2, PARAMS, "RUNNING", epochs(1)),
            ],
            [
                (TrialState.RUNNING, None, {1: 0.1, 2: 0.2, 3: 0.3}),
                (TrialState.RUNNING, None, {1: 0.1}),
            ],
        ),
        (
            [
                first,
                TrialRecord(1, PARAMS, "COMPLETE", epochs(4)),
                TrialRecord(2, PARAMS, "FAILED", epochs(1), "diverged"),
            ],
            [
                (TrialState.COMPLETE, 0.4, {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}),
                (TrialState.FAIL, None, {1: 0.1}),
            ],
        ),
    ):
        study.update(records)
        study.update(records)  # adds nothing
        found = shown(dashboard)
        assert found == [(TrialState.COMPLETE, 0.2, {1: 0.1, 2: 0.2}), *expected]
        now = path.read_bytes()
        assert now.startswith(before)
        before = now
    (trial, *_) = optuna.load_study(study_name=TITLE, storage=dashboard).trials
    assert trial.params == PARAMS.as_dict()
    assert trial.user_attrs == {"number": 0}
    assert trial.duration is not None
    assert trial.duration.total_seconds() == pytest.approx(0.2)


def test_a_trial_that_begins_again_or_fails_in_its_refit_is_shown_as_it_is_now(path: Path) -> None:
    study = begin(path)
    dashboard, before = reader(path), path.read_bytes()
    complete = TrialRecord(0, PARAMS, "COMPLETE", epochs(2))
    study.update([complete, TrialRecord(1, PARAMS, "RUNNING", epochs(3))])
    study.update([complete, TrialRecord(1, PARAMS, "RUNNING")])
    assert [trial[0] for trial in shown(dashboard)] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert shown(dashboard)[1][2] == {}
    study.update([replace(complete, state="FAILED"), TrialRecord(1, PARAMS, "RUNNING")])
    assert [trial[0] for trial in shown(dashboard)] == [TrialState.FAIL, TrialState.RUNNING]
    assert path.read_bytes().startswith(before)
    assert len(dashboard.get_all_studies()) == 1


def test_a_launch_reads_nothing_of_an_earlier_file(path: Path) -> None:
    path.write_text("not a journal\n")
    path.with_name(f"{NAME}.lock").symlink_to("nowhere")  # as a killed launch leaves it
    begin(path).update([TrialRecord(0, PARAMS, "COMPLETE", epochs(1))])
    assert shown(reader(path)) == [(TrialState.COMPLETE, 0.1, {1: 0.1})]


def test_a_file_that_cannot_be_written_holds_nothing_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = tmp_path / "missing" / NAME
    updates = LiveUpdates(NAME, lambda: begin(missing), list, seconds=0.01)
    updates.close(None, seconds=20)
    line = "optuna.journal failed (FileNotFoundError); the run continues without it"
    assert caplog.messages[0] == line
