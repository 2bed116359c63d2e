import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distcel.execute.environment import environment
from distcel.search.trials import TrialRecord
from distcel.tracking.live import MLFLOW_ENVIRONMENT, LiveUpdates
from distcel.tracking.mlflow import Tracker
from tests.tracking.made import identity
from tests.tracking.test_mlflow import (  # noqa: F401
    PARAMS,
    children,
    database,
    epochs,
    folder,
    history,
    open_tracker,
)


def test_a_thread_keeps_mlflow_up_to_date_until_it_is_closed(
    open_tracker: Callable[[], Tracker],  # noqa: F811
) -> None:
    tracker = open_tracker()
    records = [TrialRecord(0, PARAMS, "RUNNING", epochs(1))]
    updates = LiveUpdates("MLflow", open_tracker, lambda: records, seconds=0.05)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = children(tracker)
        if found and history(tracker, found[0], "valid_accuracy"):
            break
        time.sleep(0.05)
    assert history(tracker, children(tracker)[0], "valid_accuracy") == [(1, 0.1)]
    records[0] = replace(records[0], epochs=epochs(3))
    records.append(TrialRecord(1, PARAMS, "COMPLETE", epochs(2)))
    updates.close(None, seconds=60)
    by_name = {run.info.run_name: run for run in children(tracker)}
    assert {name: run.info.status for name, run in by_name.items()} == {
        "trial 0": "KILLED",
        "trial 1": "FINISHED",
    }
    assert len(history(tracker, by_name["trial 0"], "valid_accuracy")) == 3
    assert tracker.client.get_run(tracker.parent_id).info.status == "KILLED"

    # The next launch takes the killed trial up again, from its start.
    records[0] = replace(records[0], state="COMPLETE", epochs=epochs(4))
    open_tracker().update(records)
    by_name = {run.info.run_name: run for run in children(tracker)}
    assert {run.info.status for run in by_name.values()} == {"FINISHED"}
    steps = [step for step, _ in history(tracker, by_name["trial 0"], "valid_accuracy")]
    assert steps == [1, 2, 3, 4]


def test_a_failing_mlflow_holds_nothing_up_and_tells_no_password(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refused() -> Tracker:
        return Tracker("http://user:hunter2@127.0.0.1:9", identity("key", tmp_path))

    with environment(**MLFLOW_ENVIRONMENT):
        updates = LiveUpdates("MLflow", refused, list, seconds=0.01)
        updates.close(None, seconds=20)
    assert "MLflow failed" in caplog.text
    assert "the same command again" in caplog.text
    assert "hunter2" not in caplog.text
