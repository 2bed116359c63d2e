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
from distcel.tracking import experiment
from distcel.tracking.mlflow import Tracker
from distcel.tracking.records import TrackedReproduction
from distcel.tracking.reproduction import log_reproduction
from distcel.train.checkpoint import EpochResult
from tests.tracking.made import DATA, identity, outcome

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
    return lambda: Tracker(database, identity(key, folder / "artifacts"))


def children(tracker: Tracker) -> list[Run]:
    query = f"tags.`mlflow.parentRunId` = '{tracker.parent_id}'"
    return list(tracker.client.search_runs([tracker.experiment_id], query))


def datasets(run: Run) -> list[tuple[str, str]]:
    assert run.inputs is not None
    return [(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs]


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
) -> None:
    tracker = open_tracker()
    report = tmp_path / "report.md"
    report.write_text("| e2e-CEL |")
    metrics = {"test_e2e_cel": 0.97}
    found = outcome(metrics, saved_ensemble, report, description="| e2e-CEL |")
    tracker.finish(found)
    tracker.finish(found)
    parent = tracker.client.get_run(tracker.parent_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == metrics | {"best_k": 3, "best_epsilon": 0.1}
    assert parent.data.tags["best.gradient"] == "exact"
    assert parent.data.params == {"seed": "0"}
    assert datasets(parent) == [("digits", "0123abcd")]
    assert parent.data.tags["mlflow.source.name"]
    assert parent.data.tags[DESCRIPTION] == "| e2e-CEL |"
    artifacts = {file.path for file in tracker.client.list_artifacts(tracker.parent_id)}
    assert artifacts == {"report.md"}
    assert history(tracker, parent, "test_e2e_cel") == [(0, 0.97)]
    assert parent.info.artifact_uri.startswith((folder / "artifacts").as_uri())


def test_a_launch_that_finds_all_done_makes_the_run_no_longer(
    open_tracker: Callable[[], Tracker], saved_ensemble: Path
) -> None:
    def ended_after(records: list[TrialRecord], accuracy: float) -> int:
        tracker = open_tracker()
        tracker.update(records)
        metrics = {"test_e2e_cel": accuracy}
        tracker.finish(outcome(metrics, saved_ensemble))
        info = tracker.client.get_run(tracker.parent_id).info
        assert info.status == "FINISHED"
        return int(info.end_time)

    done = TrialRecord(0, PARAMS, "COMPLETE", epochs(2))
    first = ended_after([done], 0.5)
    assert ended_after([done], 0.5) == first
    added = ended_after([done, replace(done, number=1)], 0.5)
    other = ended_after([done, replace(done, number=1)], 0.75)
    assert first < added < other


def test_what_a_user_adds_to_the_description_stays_as_long_as_the_results_do(
    open_tracker: Callable[[], Tracker], saved_ensemble: Path
) -> None:
    def description(accuracy: float) -> str:
        metrics = {"test_e2e_cel": accuracy}
        tracker = open_tracker()
        tracker.finish(outcome(metrics, saved_ensemble, description=f"{accuracy}"))
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
    second = Tracker(database, identity("another key", tmp_path / "artifacts"))
    assert first.parent_id != second.parent_id
    assert first.experiment_id == second.experiment_id
    assert MlflowClient(database).get_experiment(first.experiment_id).name == "distcel digits"


def test_a_run_has_the_commit_of_its_script_or_else_of_distcel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commit, url = "mlflow.source.git.commit", "mlflow.source.git.repoURL"
    for found, expected in (
        ({}, {commit: "0123abc"}),
        ({commit: "f00", url: "https://t@h"}, {commit: "f00"}),
    ):
        monkeypatch.setattr(experiment, "resolve_tags", lambda found=found: dict(found))
        assert experiment.source_tags("0123abc, changed") == expected
        assert experiment.source_tags(None) == {k: v for k, v in found.items() if k == commit}


@pytest.mark.parametrize("switch", [None, "true", "false"])
def test_system_metrics_are_sampled_while_a_trial_runs_unless_turned_off(
    switch: str | None, open_tracker: Callable[[], Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    if switch:
        monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", switch)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.001")
    tracker = open_tracker()

    def sampled() -> bool:
        found = tracker.client.get_run(tracker.parent_id).data.metrics
        return "system/cpu_utilization_percentage" in found

    running = TrialRecord(0, PARAMS, "RUNNING", epochs(2))
    tracker.update([replace(running, state="COMPLETE")])
    assert not sampled()
    tracker.update([running])
    assert sampled() == (switch != "false")


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
        uri = tracking_uri(None, runs / "run")
        return Tracker(uri, identity(key, runs / "mlflow-artifacts", "moved"))

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
    tracker = Tracker(uri, identity("a", tmp_path / "others" / "mlflow-artifacts", "shared"))
    tracker.client.log_artifact(tracker.parent_id, str(report))
    Tracker(uri, identity("b", runs / "mlflow-artifacts", "shared"))
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
        data=DATA,
        run_name="reproduction of digits",
        key="digits-quick",
        description="Tables 1 to 3",
        params={"seeds": "0, 1"},
        metrics={"e2e-CEL": 0.5},
        curves={"e2e-CEL": {1: 0.5, 55: 0.75}},
        files=[report],
        artifacts=folder / "artifacts",
        commit=None,
    )
    client = MlflowClient(tracking_uri=database)
    query = "tags.`distcel.reproduction` = 'digits-quick'"
    ids: list[str] = []
    for metrics in ({"UA": 0.25}, reproduction.metrics, reproduction.metrics):
        again = replace(reproduction, metrics=metrics, description=f"Tables 1 to 3, {len(ids)}")
        log_reproduction(database, again)
        found = client.get_experiment_by_name("distcel digits")
        assert found is not None
        (run,) = client.search_runs([found.experiment_id], query)
        ids.append(run.info.run_id)
    assert ids[0] != ids[1] == ids[2]  # the same results are not logged again
    assert datasets(run) == [("digits", "0123abcd")]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"seeds": "0, 1"}
    assert run.data.tags[DESCRIPTION] == "Tables 1 to 3, 1"
    assert run.data.metrics == {"e2e-CEL": 0.5, "e2e-CEL_over_k": 0.75}
    curve = client.get_metric_history(run.info.run_id, "e2e-CEL_over_k")
    assert {point.step: point.value for point in curve} == {1: 0.5, 55: 0.75}
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.md"]
    with pytest.raises(MlflowException):
        log_reproduction(database, replace(reproduction, metrics={"refused, <=": 0.25}))
    assert found is not None
    runs = client.search_runs([found.experiment_id], query)
    assert run.info.run_id in [one.info.run_id for one in runs]  # what is there stays
