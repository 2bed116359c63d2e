"""MLflow: one parent run a search, one child run a trial.

MLflow is a view of the trial records, which are on disk. `Tracker.update` adds what MLflow lacks,
so it can be called at any time and any number of times.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as _PARENT_TAG
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from distcel.search.trials import TrialRecord
from distcel.tracking.experiment import connect, dataset_input, experiment_of, source_tags
from distcel.tracking.logged_model import log_once, register_once
from distcel.tracking.records import Outcome, SearchIdentity
from distcel.tracking.system_metrics import SystemMetrics

_KEY_TAG = "distcel.search"
_TRIAL_TAG = "distcel.trial"
_STATUS = {"RUNNING": "RUNNING", "COMPLETE": "FINISHED", "FAILED": "FAILED"}


class Tracker:
    """Writes one search to an MLflow tracking server or database; connects at once.

    Args:
        uri: absolute tracking URI.
        identity: the search's name, key, tags and parameters.
    """

    def __init__(self, uri: str, identity: SearchIdentity) -> None:
        self.client = connect(uri)
        self._key, self._data = identity.key, identity.data
        name, artifacts = identity.experiment, identity.artifacts
        self.experiment_id = experiment_of(self.client, uri, name, artifacts)
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
        self._describe_parent(parent, identity)
        self._system_metrics = SystemMetrics(self.client, parent)
        for run in children:
            self._adopt(run)

    def _create_parent(self, identity: SearchIdentity) -> Run:
        tags = {_KEY_TAG: identity.key, **source_tags(identity.commit), **identity.tags}
        return self.client.create_run(self.experiment_id, tags=tags, run_name=identity.run_name)

    def _describe_parent(self, parent: Run, identity: SearchIdentity) -> None:
        """Log the parameters and the data set that the parent run lacks."""
        logged = parent.data.params
        params = [Param(k, v) for k, v in identity.params.items() if k not in logged]
        if params:
            self.client.log_batch(self.parent_id, params=params)
        if not (parent.inputs and parent.inputs.dataset_inputs):
            self.client.log_inputs(self.parent_id, [dataset_input(identity.data)])

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
        if any(record.state == "RUNNING" for record in records):
            self._system_metrics.sample()

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
        """Log the outcome with the parent run, register its model if asked, and end the run."""
        parent = self.client.get_run(self.parent_id)
        model, is_new = None, False
        if outcome.model is not None:
            model, is_new = log_once(self.client, parent, outcome.model, outcome.best)
        metrics = {**outcome.metrics, **_numbers(outcome.best)}
        logged = parent.data.metrics
        changed = {k: v for k, v in metrics.items() if is_new or logged.get(k) != v}
        if changed:
            self._ended_ms = None
            # Otherwise the description stays, with what a user may have added.
            self.client.set_tag(self.parent_id, MLFLOW_RUN_NOTE, outcome.description)
            self._log_metrics(changed, model.model_id if model else None)
        for name, value in outcome.best.items():
            self.client.set_tag(self.parent_id, f"best.{name}", str(value))
        for path in outcome.files:
            self.client.log_artifact(self.parent_id, str(path))
        if model is not None and outcome.register is not None:
            register_once(self.client, model, parent, outcome.register)
        self._end("FINISHED", self._ended_ms)

    def _log_metrics(self, metrics: Mapping[str, float], model_id: str | None) -> None:
        """Log metrics with the parent run, its model and the data set."""
        of = {"dataset_name": self._data.name, "dataset_digest": self._data.digest}
        now = int(time.time() * 1000)
        entities = [Metric(k, v, now, 0, model_id, **of) for k, v in metrics.items()]
        self.client.log_batch(self.parent_id, metrics=entities)

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


def _numbers(best: Mapping[str, Any]) -> dict[str, float]:
    """The best trial's numbers, as metrics: MLflow lets no parameter of a run change."""
    return {f"best_{k}": float(v) for k, v in best.items() if isinstance(v, int | float)}
