"""Starts the experiment tracker that a launch chose: MLflow, or none.

Trackers are views of the records on disk; nothing is read back from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distcel.execute.environment import environment
from distcel.search.prepare import Prepared
from distcel.search.trials import TrialStore
from distcel.storage.files import content_key
from distcel.storage.identity import own_id
from distcel.tracking.live import MLFLOW_ENVIRONMENT, LiveUpdates
from distcel.tracking.records import Outcome, SearchIdentity, TrackedReproduction

if TYPE_CHECKING:
    from distcel.tracking.mlflow import Tracker

logger = logging.getLogger(__name__)


@contextmanager
def tracked(prepared: Prepared, store: TrialStore) -> Iterator[Callable[[Outcome | None], None]]:
    """Keep trackers up to date while the context is open; yields what ends their runs."""
    if prepared.options.mlflow_uri == "none":
        yield lambda _: None
        return
    with environment(**MLFLOW_ENVIRONMENT):
        updates = LiveUpdates(lambda: _tracker(prepared), store.snapshot)
        yield lambda outcome: updates.close(outcome, seconds=900 if outcome else 8)


def track_reproduction(mlflow_uri: str, reproduction: TrackedReproduction) -> None:
    """Log a reproduction; a tracker that fails is no reason to fail."""
    if mlflow_uri == "none":
        return
    try:
        with environment(**MLFLOW_ENVIRONMENT):
            from distcel.tracking.mlflow import log_reproduction

            log_reproduction(mlflow_uri, reproduction)
    except Exception as error:  # the message may contain a password
        logger.warning("MLflow failed (%s): the same command logs it", type(error).__name__)


def _tracker(prepared: Prepared) -> Tracker:
    from distcel.tracking.mlflow import Tracker

    options = prepared.options
    tags = {
        "dataset": prepared.experiment.dataset,
        "preset": options.preset,
        "seed": str(options.seed),
        "selector_split": options.selector_split,
        "run_dir": str(options.run_dir.resolve()),
    }
    if options.fixed:
        tags["fixed"] = " ".join(f"{name}={value}" for name, value in options.fixed.items())
    artifacts = options.run_dir.parent / "mlflow-artifacts"
    identity = SearchIdentity(
        experiment_name(prepared.experiment.dataset),
        prepared.title,
        content_key([prepared.search_key, own_id(options.run_dir)]),
        tags,
        artifacts,
    )
    return Tracker(options.mlflow_uri, identity)


def experiment_name(dataset: str) -> str:
    """The name of the MLflow experiment: MLFLOW_EXPERIMENT_NAME, or else the data set's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or f"distcel {dataset}"
