import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from distcel.experiment.types import SelectionParams
from distcel.search.options import tracking_uri
from distcel.search.trials import TrialRecord
from distcel.storage import provenance
from distcel.tracking.mlflow import Tracker, log_reproduction
from distcel.tracking.records import Outcome, SearchIdentity, TrackedReproduction
from distcel.train.checkpoint import EpochResult

PARAMS = SelectionParams(k=3, epsilon=0.1, m=10, lr=0.5, gradient="exact")
DESCRIPTION = "mlflow.note.content"  # the tag that the UI shows as the description


def epochs(count: int) -> tuple[EpochResult, ...]:
    return tuple(
        EpochResult(i, 2.0 - i / 10, 1.5, i / 10, 0.1, 1_800_000_000_000 + i)
        for i in range(1, count + 1)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture
def runs(tmp_path: Path, database: str, folder: Path) -> Path:
    """A folder of run directories with a database of its own: making its tables takes seconds."""
    MlflowClient(database).search_experiments()
    runs = tmp_path / "a%2Fb?c"  # of which SQLAlchemy would make other characters
    runs.mkdir()
    shutil.copy(folder / "mlflow.db", runs)
    return runs


@pytest.fixture
def open_tracker(
    database: str, folder: Path, request: pytest.FixtureRequest
) -> Callable[[], Tracker]:
    key = request.node.name
    identity = SearchIdentity("distcel digits", "run", key, {"seed": "0"}, folder / "artifacts")
    return lambda: Tracker(database, identity)


def children(tracker: Tracker) -> list[Run]:
    query = f"tags.`mlflow.parentRunId` = '{tracker.parent_id}'"
    return list(tracker.client.search_runs([tracker.experiment_id], query))


def history(tracker: Tracker, run: Run, metric: str) -> list[tuple[int, float]]:
    found = tracker.client.get_metric_history(run.info.run_id, metric)
    return [(m.step, m.value) for m in found]


def test_updates_add_what_is_missing_and_nothing_twice(
    open_tracker: Callable[[], Tracker],
) -> None:
    tracker = open_tracker()
    record = TrialRecord(0, PARAMS, "RUNNING", epochs(2))
    tracker.update([record])
    tracker.update([record])
    (run,) = children(tracker)
    assert run.info.status == "RUNNING"
    assert run.data.params == {
        "k": "3",
        "epsilon": "0.1",
        "m": "10",
        "lr": "0.5",
        "gradient": "exact",
        "vote": "sum",
    }
    done = replace(record, epochs=epochs(4), state="COMPLETE")
    tracker.update([done])
    # Another launch finds what the first one wrote.
    again = open_tracker()
    again.update([done])
    assert again.parent_id == tracker.parent_id
    (run,) = children(again)
    assert run.info.status == "FINISHED"
    assert history(again, run, "valid_accuracy") == [(i, i / 10) for i in (1, 2, 3, 4)]
    assert history(again, run, "valid_loss") == [(i, 1.5) for i in (1, 2, 3, 4)]


def test_a_trial_that_begins_again_has_nothing_of_its_first_attempt(
    open_tracker: Callable[[], Tracker],
) -> None:
    record = TrialRecord(0, PARAMS, "RUNNING", epochs(3))
    open_tracker().update([record])  # and its launch is killed
    tracker = open_tracker()
    tracker.update([replace(record, epochs=epochs(2))])
    (run,) = children(tracker)
    assert [step for step, _ in history(tracker, run, "valid_accuracy")] == [1, 2]
    # Its worker dies and Tune begins it once more, which ASHA stops.
    tracker.update([replace(record, epochs=epochs(1))])
    (run,) = children(tracker)
    assert [step for step, _ in history(tracker, run, "valid_accuracy")] == [1]
    # And again; by the next update it has caught up.
    third = tuple(replace(e, valid_accuracy=0.7, ended_ms=e.ended_ms + 50) for e in epochs(2))
    tracker.update([replace(record, epochs=third, state="COMPLETE")])
    (run,) = children(tracker)
    assert run.info.status == "FINISHED"
    assert run.data.params["k"] == "3"
    assert history(tracker, run, "valid_accuracy") == [(1, 0.7), (2, 0.7)]
    again = open_tracker()
    again.update([replace(record, epochs=third, state="COMPLETE")])
    assert [found.info.run_id for found in children(again)] == [run.info.run_id]


def test_a_failed_trial_is_marked_with_its_reason(open_tracker: Callable[[], Tracker]) -> None:
    tracker = open_tracker()
    tracker.update([TrialRecord(0, PARAMS, "FAILED", (), "loss became nan")])
    (run,) = children(tracker)
    assert run.info.status == "FAILED"
    assert run.data.tags["distcel.reason"] == "loss became nan"


def test_the_parent_gets_the_tables_and_ends(
    open_tracker: Callable[[], Tracker],
    folder: Path,
    tmp_path: Path,
    saved_ensemble: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = provenance._AS_IMPORTED | {Path("train", "loop.py"): "AS_IMPORTED = 1\n"}
    monkeypatch.setattr(provenance, "_AS_IMPORTED", imported)
    tracker = open_tracker()
    report = tmp_path / "report.md"
    report.write_text("| e2e-CEL |")
    metrics = {"test_e2e_cel": 0.97}
    outcome = Outcome("| e2e-CEL |", metrics, [report], saved_ensemble, (3, 16, 16), 3)
    tracker.finish(outcome)
    tracker.finish(outcome)
    parent = tracker.client.get_run(tracker.parent_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == metrics
    assert parent.data.tags[DESCRIPTION] == "| e2e-CEL |"
    artifacts = {file.path for file in tracker.client.list_artifacts(tracker.parent_id)}
    assert artifacts == {"report.md", "model"}
    assert history(tracker, parent, "test_e2e_cel") == [(0, 0.97)]
    code = Path(parent.info.artifact_uri.removeprefix("file://")) / "model" / "code" / "distcel"
    # The code as this process imported it: the files may have been edited since.
    assert (code / "train" / "loop.py").read_text() == "AS_IMPORTED = 1\n"
    assert parent.info.artifact_uri.startswith((folder / "artifacts").as_uri())


def test_a_launch_that_finds_all_done_makes_the_run_no_longer(
    open_tracker: Callable[[], Tracker], saved_ensemble: Path
) -> None:
    def ended_after(records: list[TrialRecord], accuracy: float) -> tuple[int, int]:
        tracker = open_tracker()
        tracker.update(records)
        metrics = {"test_e2e_cel": accuracy}
        tracker.finish(Outcome("", metrics, [], saved_ensemble, (3, 16, 16), 3))
        info = tracker.client.get_run(tracker.parent_id).info
        assert info.status == "FINISHED"
        model = Path(info.artifact_uri.removeprefix("file://")) / "model" / "MLmodel"
        return int(info.end_time), model.stat().st_mtime_ns  # hundreds of megabytes lie beside it

    done = TrialRecord(0, PARAMS, "COMPLETE", epochs(2))
    first = ended_after([done], 0.5)
    assert ended_after([done], 0.5) == first
    added = ended_after([done, replace(done, number=1)], 0.5)
    other = ended_after([done, replace(done, number=1)], 0.75)
    assert first[0] < added[0] < other[0]
    assert first[1] < added[1] < other[1]


def test_what_a_user_adds_to_the_description_stays_as_long_as_the_results_do(
    open_tracker: Callable[[], Tracker], saved_ensemble: Path
) -> None:
    def description(accuracy: float) -> str:
        metrics = {"test_e2e_cel": accuracy}
        tracker = open_tracker()
        tracker.finish(Outcome(f"{accuracy}", metrics, [], saved_ensemble, (3, 16, 16), 3))
        return str(tracker.client.get_run(tracker.parent_id).data.tags[DESCRIPTION])

    assert description(0.5) == "0.5"
    tracker = open_tracker()
    tracker.client.set_tag(tracker.parent_id, DESCRIPTION, "0.5, my best one")
    assert description(0.5) == "0.5, my best one"
    assert description(0.75) == "0.75"


def test_another_search_is_another_parent(
    open_tracker: Callable[[], Tracker], database: str, tmp_path: Path
) -> None:
    first = open_tracker()
    name, artifacts = "distcel digits", tmp_path / "artifacts"
    identity = SearchIdentity(name, "run", "another key", {}, artifacts)
    second = Tracker(database, identity)
    assert first.parent_id != second.parent_id
    assert first.experiment_id == second.experiment_id
    assert MlflowClient(database).get_experiment(first.experiment_id).name == "distcel digits"


def test_trials_whose_parent_was_deleted_get_the_new_one(
    open_tracker: Callable[[], Tracker],
) -> None:
    tracker, record = open_tracker(), TrialRecord(0, PARAMS, "COMPLETE", epochs(2))
    tracker.update([record])
    (run,) = children(tracker)
    tracker.client.delete_run(tracker.parent_id)  # as in the UI, where its children stay
    again = open_tracker()
    again.update([record, replace(record, number=1)])
    assert again.parent_id != tracker.parent_id
    found = {child.info.run_name: child.info.run_id for child in children(again)}
    assert sorted(found) == ["trial 0", "trial 1"]
    assert found["trial 0"] == run.info.run_id
    assert len(history(again, run, "valid_accuracy")) == 2


def test_artifacts_move_with_their_database(tmp_path: Path, runs: Path) -> None:
    report = tmp_path / "report.md"
    report.write_text("# digits")

    def tracker_of(runs: Path, key: str) -> Tracker:
        identity = SearchIdentity("moved", "run", key, {}, runs / "mlflow-artifacts")
        return Tracker(tracking_uri(None, runs / "run"), identity)

    def place(tracker: Tracker) -> Path:
        uri = tracker.client.get_run(tracker.parent_id).info.artifact_uri
        return Path(unquote(urlsplit(uri).path))

    tracker = tracker_of(runs, "done")
    tracker.client.log_artifact(tracker.parent_id, str(report))
    assert (place(tracker) / "report.md").is_relative_to(runs)
    tracker_of(runs, "interrupted")
    moved = runs.rename(tmp_path / "moved")
    assert (place(tracker_of(moved, "done")) / "report.md").is_file()
    for key in ("interrupted", "new"):
        tracker = tracker_of(moved, key)
        tracker.client.log_artifact(tracker.parent_id, str(report))
        assert place(tracker).is_relative_to(moved)
        assert (place(tracker) / "report.md").is_file()
    shutil.copytree(moved, tmp_path / "copy")
    for key in ("new", "of the copy"):
        assert place(tracker_of(tmp_path / "copy", key)).is_relative_to(tmp_path / "copy")
    assert not runs.exists()


def test_artifacts_that_did_not_move_stay_where_they_are(tmp_path: Path, runs: Path) -> None:
    uri, report = tracking_uri(None, runs / "run"), tmp_path / "report.md"
    report.write_text("# digits")
    of_others = SearchIdentity("shared", "run", "a", {}, tmp_path / "others" / "mlflow-artifacts")
    tracker = Tracker(uri, of_others)
    tracker.client.log_artifact(tracker.parent_id, str(report))
    of_run = SearchIdentity("shared", "run", "b", {}, runs / "mlflow-artifacts")
    Tracker(uri, of_run)
    (found,) = tracker.client.list_artifacts(tracker.parent_id)
    assert found.path == "report.md"


def test_an_experiment_that_was_deleted_is_restored(
    open_tracker: Callable[[], Tracker],
) -> None:
    tracker = open_tracker()
    tracker.client.delete_experiment(tracker.experiment_id)
    again = open_tracker()
    again.update([TrialRecord(0, PARAMS, "RUNNING", epochs(1))])
    assert again.experiment_id == tracker.experiment_id
    assert len(children(again)) == 1


def test_a_reproduction_is_one_run_however_often_it_is_logged(database: str, folder: Path) -> None:
    report = folder / "report.md"
    report.write_text("# digits")
    reproduction = TrackedReproduction(
        experiment="distcel digits",
        run_name="reproduction of digits",
        key="digits-quick",
        description="Tables 1 to 3",
        params={"seeds": "0, 1"},
        metrics={"e2e-CEL": 0.5},
        curves={"e2e-CEL": {1: 0.5, 55: 0.75}},
        files=[report],
        artifacts=folder / "artifacts",
    )
    log_reproduction(database, replace(reproduction, metrics={"UA": 0.25}))
    log_reproduction(database, reproduction)
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("distcel digits")
    assert experiment is not None
    query = "tags.`distcel.reproduction` = 'digits-quick'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seeds": "0, 1"}
    assert run.data.tags[DESCRIPTION] == "Tables 1 to 3"
    assert run.data.metrics == {"e2e-CEL": 0.5, "e2e-CEL_over_k": 0.75}
    curve = client.get_metric_history(run.info.run_id, "e2e-CEL_over_k")
    assert {point.step: point.value for point in curve} == {1: 0.5, 55: 0.75}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.md"]
    with pytest.raises(MlflowException):
        log_reproduction(database, replace(reproduction, metrics={"refused, <=": 0.25}))
    runs = client.search_runs([experiment.experiment_id], query)
    assert run.info.run_id in [found.info.run_id for found in runs]  # what is there stays
