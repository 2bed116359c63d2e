"""MLflow: one parent run a search, one child run a trial.

The trial records are the truth and MLflow is a view of them: `Tracker.update` looks at what MLflow
already has and adds what is missing, so it can be called at any time and any number of times.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from distcel.types import TrialRecord

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)

_KEY_TAG = "distcel.search"
_TRIAL_TAG = "distcel.trial"
_EXPERIMENT_KIND = "custom_model_development"  # the UI then opens on the table of runs
_STATUS = {"RUNNING": "RUNNING", "COMPLETE": "FINISHED", "FAILED": "FAILED"}


class Tracker:
    """Writes one search to an MLflow tracking server or database.

    Args:
        uri: absolute tracking URI.
        dataset: the MLflow experiment is named after it.
        run_name: of the parent run.
        key: digest of the search; a second launch of it goes on with the same parent run.
        tags: facts about the search, shown with the parent run.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """

    def __init__(
        self,
        uri: str,
        dataset: str,
        run_name: str,
        key: str,
        tags: Mapping[str, str],
        artifacts: Path,
    ) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        location = artifacts.resolve().as_uri() if uri.startswith("sqlite:") else None
        experiment = self.client.get_experiment_by_name(f"distcel {dataset}")
        self.experiment_id: str = (
            experiment.experiment_id
            if experiment
            else self.client.create_experiment(
                f"distcel {dataset}", location, {"mlflow.experimentKind": _EXPERIMENT_KIND}
            )
        )
        found = self._search(f"tags.`{_KEY_TAG}` = '{key}'")
        parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
        if parents:
            self.parent_id: str = parents[0].info.run_id
            self.client.update_run(self.parent_id, status="RUNNING")
        else:
            all_tags = {_KEY_TAG: key, **tags}
            run = self.client.create_run(self.experiment_id, tags=all_tags, run_name=run_name)
            self.parent_id = run.info.run_id
        self._key = key
        self._children: dict[int, str] = {}
        self._logged: dict[int, int] = {}
        self._status: dict[int, str] = {}
        for run in found:
            if "mlflow.parentRunId" in run.data.tags:
                self._adopt(run)

    def _search(self, query: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], query, ViewType.ACTIVE_ONLY, 1000, page_token=token
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def _adopt(self, run: Run) -> None:
        number = int(run.data.tags[_TRIAL_TAG])
        history = self.client.get_metric_history(run.info.run_id, "valid_accuracy")
        self._children[number] = run.info.run_id
        self._logged[number] = len(history)
        self._status[number] = run.info.status

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Bring MLflow up to the records: runs, parameters, metrics and states, each once."""
        for record in records:
            self._update_trial(record)

    def _update_trial(self, record: TrialRecord) -> None:
        number = record.number
        if number not in self._children:
            tags = {
                "mlflow.parentRunId": self.parent_id,
                _KEY_TAG: self._key,
                _TRIAL_TAG: str(number),
            }
            name = f"trial {number}"
            run = self.client.create_run(self.experiment_id, tags=tags, run_name=name)
            params = [Param(k, str(v)) for k, v in record.params.as_dict().items()]
            self.client.log_batch(run.info.run_id, params=params)
            self._children[number], self._logged[number] = run.info.run_id, 0
            self._status[number] = "RUNNING"
        run_id = self._children[number]
        fresh = record.epochs[self._logged[number] :]
        if fresh:
            now = int(time.time() * 1000)
            metrics = [
                Metric(name, getattr(result, name), now, result.epoch)
                for result in fresh
                for name in ("valid_accuracy", "valid_loss", "train_loss")
            ]
            self.client.log_batch(run_id, metrics=metrics)
            self._logged[number] = len(record.epochs)
        status = _STATUS[record.state]
        if status != self._status[number]:
            if record.reason:
                self.client.set_tag(run_id, "distcel.reason", record.reason)
            self.client.set_terminated(run_id, status)
            self._status[number] = status

    def log_model(self, ensemble: Path, image_shape: Sequence[int], n_classes: int) -> None:
        """Log the folder of a saved ensemble with the parent run, as a pyfunc model."""
        import mlflow.pyfunc  # a second of its own

        images = TensorSpec(np.dtype(np.uint8), (-1, *image_shape))
        probs = TensorSpec(np.dtype(np.float32), (-1, n_classes))
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # MLflow asks for an input example and for type hints; the signature says it all.
            warnings.simplefilter("ignore", UserWarning)
            mlflow.pyfunc.save_model(
                path=f"{folder}/model",
                python_model=str(Path(__file__).with_name("mlflow_model.py")),
                artifacts={"ensemble": str(ensemble)},
                signature=ModelSignature(Schema([images]), Schema([probs])),
                pip_requirements=["distcel"],
            )
            self.client.log_artifacts(self.parent_id, f"{folder}/model", "model")

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log the test accuracies and the tables with the parent run and end it."""
        now = int(time.time() * 1000)
        self.client.log_batch(
            self.parent_id, metrics=[Metric(k, v, now, 0) for k, v in metrics.items()]
        )
        for path in files:
            self.client.log_artifact(self.parent_id, str(path))
        self.client.set_terminated(self.parent_id, "FINISHED")

    def abort(self) -> None:
        """Mark the parent run and every open child as KILLED."""
        for number, status in self._status.items():
            if status == "RUNNING":
                self.client.set_terminated(self._children[number], "KILLED")
                self._status[number] = "KILLED"
        self.client.set_terminated(self.parent_id, "KILLED")


class LiveUpdates:
    """While the context is open, a thread updates MLflow from snapshots of the records."""

    def __init__(
        self, tracker: Tracker, snapshot: Callable[[], list[TrialRecord]], seconds: float = 2.0
    ) -> None:
        self.tracker, self.snapshot, self.seconds = tracker, snapshot, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mlflow-updates", daemon=True)

    def _loop(self) -> None:
        while not self._stop.wait(self.seconds):
            self.tracker.update(self.snapshot())

    def __enter__(self) -> LiveUpdates:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.tracker.update(self.snapshot())
