"""The smart ensemble as a logged model of MLflow, and as a version of a registered one."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from distcel.storage.files import bytes_digest
from distcel.storage.provenance import write_copy
from distcel.tracking.experiment import SOURCE_TAGS
from distcel.tracking.records import TrackedModel

logger = logging.getLogger(__name__)

_NAME, _TYPE = "smart_ensemble", "e2e-CEL"
_DIGEST_TAG = "distcel.ensemble"
_MODEL_TAG = "distcel.model"
_PACKAGES = ("mlflow", "numpy", "pillow", "safetensors", "torch", "torchvision")


def log_once(
    client: MlflowClient, parent: Run, tracked: TrackedModel, best: Mapping[str, Any]
) -> tuple[LoggedModel, bool]:
    """Log the ensemble unless the parent run has logged the same one.

    Models of earlier results stay: a registered version may be one of them. A model whose upload
    was interrupted is deleted.

    Args:
        client: connected to the server or database.
        parent: the run of the search.
        tracked: the ensemble.
        best: the best trial's point, which becomes the model's parameters.

    Returns:
        LoggedModel: the model.
        bool: whether it was logged now.
    """
    # It has the digests of all weights.
    digest = bytes_digest((tracked.ensemble / "ensemble.json").read_bytes())
    query = f"source_run_id = '{parent.info.run_id}'"
    found = client.search_logged_models([parent.info.experiment_id], query)
    for model in found:
        if model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)
        elif model.tags.get(_DIGEST_TAG) == digest:
            _name_as_output(client, parent, model)
            return model, False
    tags = parent.data.tags
    source = {name: tags[name] for name in SOURCE_TAGS if name in tags}
    model = client.create_logged_model(
        parent.info.experiment_id,
        _NAME,
        parent.info.run_id,
        tags={_DIGEST_TAG: digest, **source},
        params={name: str(value) for name, value in best.items()},
        model_type=_TYPE,
    )
    with TemporaryDirectory() as folder:
        _save(Path(folder), tracked, model)
        client.log_model_artifacts(model.model_id, f"{folder}/model")
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    _name_as_output(client, parent, model)
    return model, True


def _name_as_output(client: MlflowClient, parent: Run, model: LoggedModel) -> None:
    outputs = parent.outputs.model_outputs if parent.outputs else []
    if model.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(parent.info.run_id, [LoggedModelOutput(model.model_id, 0)])


def _save(folder: Path, tracked: TrackedModel, model: LoggedModel) -> None:
    """Write the model to `folder/model`."""
    example = tracked.example_BCHW
    images = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))
    probs = TensorSpec(np.dtype(np.float32), (-1, tracked.n_classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has no type hints
        import mlflow.pyfunc  # takes a second

        package = write_copy(folder)
        mlflow.pyfunc.save_model(
            path=str(folder / "model"),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=model.source_run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            ),
            python_model=str(package / "tracking" / "model.py"),
            artifacts={"ensemble": str(tracked.ensemble)},
            signature=ModelSignature(Schema([images]), Schema([probs])),
            input_example=example,
            # Without the local part, as in 2.14.1+cpu, which no package index has.
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in _PACKAGES],
            code_paths=[str(package)],
        )


def register_once(client: MlflowClient, model: LoggedModel, parent: Run, name: str) -> None:
    """Register the logged model under the name unless one of its versions is this model."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # A database keeps no model_id of a version.
    query = f"name = '{name}' and tags.`{_MODEL_TAG}` = '{model.model_id}'"
    versions = client.search_model_versions(query)
    made = versions[0] if versions else _new_version(client, model, parent, name)
    own = {"name": name, "version": made.version}
    versions = json.loads(model.tags.get(MLFLOW_MODEL_VERSIONS, "[]"))
    if own not in versions:  # where the UI reads of what the model is a version
        shown = json.dumps([*versions, own])
        client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: shown})


def _new_version(client: MlflowClient, model: LoggedModel, parent: Run, name: str) -> ModelVersion:
    # Over a database, MLflow would look models:/ID up at the global tracking URI, not the client's;
    # a server would refuse the path.
    is_server = client.tracking_uri.startswith("http")
    source = f"models:/{model.model_id}" if is_server else model.artifact_location
    tags, about = {_MODEL_TAG: model.model_id}, parent.info.run_name
    made = client.create_model_version(
        name, source, parent.info.run_id, tags, description=about, model_id=model.model_id
    )
    logger.info("MLflow: models:/%s/%s is the smart ensemble", name, made.version)
    return made
