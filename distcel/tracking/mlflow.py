"""MLflow: one parent run a search, one child run a trial, one run a reproduction.

MLflow is a view of the trial records, which are on disk. `Tracker.update` adds what MLflow lacks,
so it can be called at any time and any number of times.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, ViewType
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from distcel.search.trials import TrialRecord
from distcel.storage.provenance import write_copy
from distcel.tracking.artifacts import move_artifacts
from distcel.tracking.records import Outcome, SearchIdentity, TrackedReproduction

_KEY_TAG = "distcel.search"
_TRIAL_TAG = "distcel.trial"
_PARENT_TAG = "mlflow.parentRunId"
_REPRODUCTION_TAG = "distcel.reproduction"
_DESCRIPTION_TAG = "mlflow.note.content"
_EXPERIMENT_KIND = "custom_model_development"  # the UI then opens on the table of runs
_MODEL_PACKAGES = ("mlflow", "numpy", "pillow", "safetensors", "torch", "torchvision")
_STATUS = {"RUNNING": "RUNNING", "COMPLETE": "FINISHED", "FAILED": "FAILED"}


def _quiet() -> None:
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # every retry is a warning


def experiment_of(client: MlflowClient, uri: str, name: str, artifacts: Path) -> str:
    """The id of an MLflow experiment, created if missing, restored if deleted.

    Args:
        client: connected to the server or database.
        uri: its absolute tracking URI.
        name: the experiment's name.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        found_id: str = found.experiment_id
        move_artifacts(uri, found_id, artifacts)
        if found.lifecycle_stage == LifecycleStage.DELETED:
            client.restore_experiment(found_id)
        return found_id
    # Without a location, MLflow with a database stores artifacts below the current directory.
    location = None if uri.startswith("http") else artifacts.resolve().as_uri()
    tags = {"mlflow.experimentKind": _EXPERIMENT_KIND}
    created: str = client.create_experiment(name, location, tags)
    return created


class Tracker:
    """Writes one search to an MLflow tracking server or database; connects at once.

    Args:
        uri: absolute tracking URI.
        identity: the search's name, key and tags.
    """

    def __init__(self, uri: str, identity: SearchIdentity) -> None:
        _quiet()
        self.client = MlflowClient(tracking_uri=uri)
        self._key = identity.key
        self.experiment_id = experiment_of(
            self.client, uri, identity.experiment, identity.artifacts
        )
        self._children: dict[int, str] = {}
        self._described: set[int] = set()
        self._logged: dict[int, int] = {}
        self._first_epoch_ms: dict[int, int] = {}
        self._status: dict[int, str] = {}
        runs = self._search(f"tags.`{_KEY_TAG}` = '{identity.key}'")
        runs.sort(key=lambda run: run.info.start_time)
        children = [run for run in runs if _PARENT_TAG in run.data.tags]
        used = {run.data.tags[_PARENT_TAG] for run in children}
        parents = [run for run in runs if _PARENT_TAG not in run.data.tags]
        parents.sort(key=lambda run: run.info.run_id not in used)
        for twin in parents[1:]:
            self.client.delete_run(twin.info.run_id)
        parent = (parents or [self._create_parent(identity)])[0]
        self.parent_id: str = parent.info.run_id
        # A launch that finds everything done must not change the duration of the run.
        self._ended_ms = parent.info.end_time if parent.info.status == "FINISHED" else None
        self.client.update_run(self.parent_id, status="RUNNING")
        for run in children:
            self._adopt(run)

    def _create_parent(self, identity: SearchIdentity) -> Run:
        tags = {_KEY_TAG: identity.key, **identity.tags}
        return self.client.create_run(self.experiment_id, tags=tags, run_name=identity.run_name)

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
        twin = number in self._children  # a request that failed here, but not on the server
        # An interrupted trial begins again, and what its first attempt logged is in no record.
        if twin or run.info.status in ("RUNNING", "KILLED"):
            self.client.delete_run(run.info.run_id)
            return
        if run.data.tags[_PARENT_TAG] != self.parent_id:  # that one was deleted, by a user perhaps
            self.client.set_tag(run.info.run_id, _PARENT_TAG, self.parent_id)
        history = self.client.get_metric_history(run.info.run_id, "valid_accuracy")
        self._children[number] = run.info.run_id
        self._logged[number] = len(history)
        self._first_epoch_ms[number] = min((metric.timestamp for metric in history), default=0)
        self._status[number] = run.info.status
        if run.data.params:
            self._described.add(number)

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Log what MLflow lacks of the records: runs, parameters, metrics and states, each once."""
        for record in records:
            self._update_trial(record)

    def _update_trial(self, record: TrialRecord) -> None:
        number = record.number
        if self._logged.get(number) and not self._continues(record):
            self.client.delete_run(self._children.pop(number))
            self._described.discard(number)
        if number not in self._children:
            self._create_child(number)
        run_id = self._children[number]
        point = {} if number in self._described else record.params.as_dict()
        # A metric that is logged twice with the same time is stored once.
        metrics = [
            Metric(name, getattr(result, name), result.ended_ms, result.epoch)
            for result in record.epochs[self._logged[number] :]
            for name in ("valid_accuracy", "valid_loss", "train_loss")
        ]
        if point or metrics:
            self._ended_ms = None
            params = [Param(name, str(value)) for name, value in point.items()]
            self.client.log_batch(run_id, metrics=metrics, params=params)
            self._described.add(number)
            self._logged[number] = len(record.epochs)
            self._first_epoch_ms[number] = record.epochs[0].ended_ms if record.epochs else 0
        status = _STATUS[record.state]
        if status != self._status[number]:
            if record.reason:
                self.client.set_tag(run_id, "distcel.reason", record.reason)
            self.client.set_terminated(run_id, status)
            self._status[number] = status

    def _continues(self, record: TrialRecord) -> bool:
        """Whether the logged epochs are this attempt's: a trial that lost its worker restarts."""
        number, epochs = record.number, record.epochs
        enough = len(epochs) >= self._logged[number]
        return enough and epochs[0].ended_ms == self._first_epoch_ms[number]

    def _create_child(self, number: int) -> None:
        tags = {_PARENT_TAG: self.parent_id, _KEY_TAG: self._key, _TRIAL_TAG: str(number)}
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=f"trial {number}")
        self._children[number], self._logged[number] = run.info.run_id, 0
        self._status[number] = "RUNNING"

    def finish(self, outcome: Outcome) -> None:
        """Log the outcome with the parent run and end it."""
        logged = self.client.get_run(self.parent_id).data.metrics
        now = int(time.time() * 1000)
        changed = {k: v for k, v in outcome.metrics.items() if logged.get(k) != v}
        if changed:
            self._ended_ms = None
            # Otherwise the description stays, with what a user may have added.
            self.client.set_tag(self.parent_id, _DESCRIPTION_TAG, outcome.description)
        metrics = [Metric(name, value, now, 0) for name, value in changed.items()]
        self.client.log_batch(self.parent_id, metrics=metrics)
        for path in outcome.files:
            self.client.log_artifact(self.parent_id, str(path))
        changed_since = self._ended_ms is None  # else an earlier launch logged the same model
        if changed_since and outcome.ensemble is not None:
            self._log_model(outcome)
        self._end("FINISHED", self._ended_ms)

    def _log_model(self, outcome: Outcome) -> None:
        images = TensorSpec(np.dtype(np.uint8), (-1, *outcome.image_shape))
        probs = TensorSpec(np.dtype(np.float32), (-1, outcome.n_classes))
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            # MLflow warns that it has no input example and no type hints; the signature is enough.
            warnings.simplefilter("ignore", UserWarning)
            import mlflow.pyfunc  # takes a second

            package = write_copy(Path(folder))
            mlflow.pyfunc.save_model(
                path=f"{folder}/model",
                python_model=str(package / "tracking" / "model.py"),
                artifacts={"ensemble": str(outcome.ensemble)},
                signature=ModelSignature(Schema([images]), Schema([probs])),
                pip_requirements=list(_MODEL_PACKAGES),
                code_paths=[str(package)],
            )
            self.client.log_artifacts(self.parent_id, f"{folder}/model", "model")

    def abort(self) -> None:
        """End the parent run and every open child as KILLED."""
        self._end("KILLED")

    def _end(self, status: str, ended_ms: int | None = None) -> None:
        """End the parent run now or at `ended_ms`; a trial that is still open was interrupted."""
        for number, trial_status in self._status.items():
            if trial_status == "RUNNING":
                self.client.set_terminated(self._children[number], "KILLED")
                self._status[number] = "KILLED"
        self.client.set_terminated(self.parent_id, status, ended_ms)


def log_reproduction(uri: str, reproduction: TrackedReproduction) -> None:
    """Log a reproduction as one run; an earlier one under the same name is replaced.

    Args:
        uri: absolute tracking URI.
        reproduction: what is logged.
    """
    r = reproduction
    _quiet()
    client = MlflowClient(tracking_uri=uri)
    experiment = experiment_of(client, uri, r.experiment, r.artifacts)
    query = f"tags.`{_REPRODUCTION_TAG}` = '{r.key}'"
    earlier = client.search_runs([experiment], query)
    tags = {_REPRODUCTION_TAG: r.key, _DESCRIPTION_TAG: r.description}
    run_id = client.create_run(experiment, tags=tags, run_name=r.run_name).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in r.metrics.items()]
    metrics += [
        Metric(f"{name}_over_k", value, now, k)
        for name, by_k in r.curves.items()
        for k, value in by_k.items()
    ]
    params = [Param(name, value) for name, value in r.params.items()]
    client.log_batch(run_id, metrics, params)
    for path in r.files:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id)
    for run in earlier:  # last, so that a failure above leaves them
        client.delete_run(run.info.run_id)
