"""The MLflow experiment that runs are logged to, and what a run there comes from."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils import mlflow_tags

from distcel.tracking.artifacts import move_artifacts
from distcel.tracking.database import make_database
from distcel.tracking.records import TrackedData

_KIND = "custom_model_development"  # the UI then opens on the table of runs
# Without the repository's URL, which may contain a token.
SOURCE_TAGS = (
    mlflow_tags.MLFLOW_USER,
    mlflow_tags.MLFLOW_SOURCE_NAME,
    mlflow_tags.MLFLOW_SOURCE_TYPE,
    mlflow_tags.MLFLOW_GIT_COMMIT,
    mlflow_tags.MLFLOW_GIT_BRANCH,
)


def connect(uri: str) -> MlflowClient:
    """The client of a server or database, whose own messages are kept out of the log."""
    for name in ("store.db.utils", "pyfunc", "system_metrics"):
        logging.getLogger(f"mlflow.{name}").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # every retry is a warning
    make_database(uri)
    return MlflowClient(tracking_uri=uri)


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
    created: str = client.create_experiment(name, location, {"mlflow.experimentKind": _KIND})
    return created


def source_tags(commit: str | None) -> dict[str, str]:
    """The tags that MLflow's own `start_run` gives: user, script, and the git commit it is of.

    Args:
        commit: as `provenance.describe_commit` returns it; it stands where the script is of no
            commit, as the command `distcel` is.
    """
    found = resolve_tags()
    if commit is not None:
        found.setdefault(mlflow_tags.MLFLOW_GIT_COMMIT, commit.partition(",")[0])
    return {name: found[name] for name in SOURCE_TAGS if name in found}


def dataset_input(data: TrackedData) -> DatasetInput:
    """The data set as the input of a run."""
    kind = "local" if data.source.startswith("file:") else "code"
    dtype = "uint8" if len(data.image_shape) > 1 else "float32"
    images = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *data.image_shape]}}
    labels = {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    schema = {"features": json.dumps([images]), "targets": json.dumps([labels])}
    profile = {"n_samples": dict(data.n_samples), "n_classes": data.n_classes}
    dataset = Dataset(
        data.name,
        data.digest,
        kind,
        json.dumps({"uri": data.source}),
        json.dumps({"mlflow_tensorspec": schema}),
        json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, "training")])
