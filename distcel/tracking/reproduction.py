"""A reproduction in MLflow: one run."""

from __future__ import annotations

import time

from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from distcel.storage.files import content_key
from distcel.tracking.experiment import connect, dataset_input, experiment_of, source_tags
from distcel.tracking.records import TrackedReproduction

_REPRODUCTION_TAG = "distcel.reproduction"
_CONTENT_TAG = "distcel.content"


def log_reproduction(uri: str, reproduction: TrackedReproduction) -> None:
    """Log a reproduction as one run; an earlier one with other results is replaced.

    Args:
        uri: absolute tracking URI.
        reproduction: what is logged.
    """
    r = reproduction
    client = connect(uri)
    experiment = experiment_of(client, uri, r.experiment, r.artifacts)
    # Without the description, which counts the readings of test: each launch is one more.
    names = [path.name for path in r.files]
    content = content_key([r.params, r.metrics, r.curves, r.data.digest, names])
    earlier = client.search_runs([experiment], f"tags.`{_REPRODUCTION_TAG}` = '{r.key}'")
    if any(run.data.tags.get(_CONTENT_TAG) == content for run in earlier):
        return
    tags = {**source_tags(r.commit), _REPRODUCTION_TAG: r.key, MLFLOW_RUN_NOTE: r.description}
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
    client.log_inputs(run_id, [dataset_input(r.data)])
    for path in r.files:
        client.log_artifact(run_id, str(path))
    client.set_tag(run_id, _CONTENT_TAG, content)  # now that it is whole
    client.set_terminated(run_id)
    for run in earlier:  # last, so that a failure above leaves them
        client.delete_run(run.info.run_id)
