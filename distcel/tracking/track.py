"""Starts the trackers of a launch: a study of Optuna in a file, and MLflow if it was chosen.

Trackers are views of the records on disk; nothing is read back from them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from optuna.distributions import BaseDistribution, CategoricalDistribution

from distcel.execute.environment import environment
from distcel.execute.progress import Address, with_event
from distcel.search.prepare import Prepared
from distcel.search.trials import TrialStore
from distcel.storage.files import content_key
from distcel.storage.identity import own_id
from distcel.tracking import study_file
from distcel.tracking.live import MLFLOW_ENVIRONMENT, LiveUpdates
from distcel.tracking.records import Outcome, SearchIdentity, TrackedData, TrackedReproduction
from distcel.tracking.study_file import StudyFile

if TYPE_CHECKING:
    from distcel.tracking.mlflow import Tracker

logger = logging.getLogger(__name__)


@contextmanager
def tracked(prepared: Prepared, store: TrialStore) -> Iterator[Callable[[Outcome | None], None]]:
    """Keep trackers up to date while the context is open; yields what ends their runs."""
    path, title = prepared.options.run_dir / study_file.NAME, prepared.title
    space, uri = prepared.search.space, prepared.options.mlflow_uri
    study = LiveUpdates(path.name, lambda: StudyFile(path, title, space), store.snapshot)
    if uri == "none":
        yield lambda outcome: study.close(outcome, seconds=8)
        return
    with environment(**MLFLOW_ENVIRONMENT):
        _say_where(uri, experiment_name(prepared.experiment.dataset))
        updates = LiveUpdates("MLflow", lambda: _tracker(prepared), store.snapshot)

        def close(outcome: Outcome | None) -> None:
            study.close(outcome, seconds=8)
            updates.close(outcome, seconds=900 if outcome else 8)

        yield close


def track_reproduction(mlflow_uri: str, reproduction: TrackedReproduction) -> None:
    """Log a reproduction; a tracker that fails is no reason to fail."""
    if mlflow_uri == "none":
        return
    try:
        with environment(**MLFLOW_ENVIRONMENT):
            from distcel.tracking.reproduction import log_reproduction

            _say_where(mlflow_uri, reproduction.experiment)
            log_reproduction(mlflow_uri, reproduction)
    except Exception as error:  # the message may contain a password
        logger.warning("MLflow failed (%s): the same command logs it", type(error).__name__)


def _tracker(prepared: Prepared) -> Tracker:
    from distcel.tracking.mlflow import Tracker

    options = prepared.options
    identity = SearchIdentity(
        experiment_name(prepared.experiment.dataset),
        tracked_data(prepared),
        prepared.title,
        content_key([prepared.search_key, own_id(options.run_dir)]),
        {"run_dir": str(options.run_dir.resolve())},
        _params(prepared),
        artifacts=options.run_dir.parent / "mlflow-artifacts",
        commit=prepared.commit,
    )
    return Tracker(options.mlflow_uri, identity)


def experiment_name(dataset: str) -> str:
    """The name of the MLflow experiment: MLFLOW_EXPERIMENT_NAME, or else the data set's."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or f"distcel {dataset}"


def tracked_data(prepared: Prepared) -> TrackedData:
    """The data set of a launch, as MLflow shows it."""
    dataset, splits = prepared.experiment.dataset, prepared.splits
    options = prepared.options
    source = "memory" if options.images else options.data_dir.resolve().as_uri()
    return TrackedData(
        name=dataset,
        digest=splits.digest,
        source="sklearn.datasets.load_digits" if dataset == "digits" else source,
        n_samples={name: len(split.labels_S) for name, split in splits.by_name.items()},
        image_shape=splits.image_shape,
        n_classes=len(splits.class_names),
    )


def _params(prepared: Prepared) -> dict[str, str]:
    """What every launch of the same search has in common: options, recipes and search space."""
    options, experiment = prepared.options, prepared.experiment
    params = {
        "dataset": experiment.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "selector_split": options.selector_split,
        "n_learners": len(prepared.specs),
    }
    recipes = {"learner": experiment.learner_recipe, "selector": experiment.selector_recipe}
    for of, recipe in recipes.items():
        params |= {f"{of}.{name}": value for name, value in recipe.description().items()}
    params |= {f"space.{name}": _ends(of) for name, of in prepared.search.space.items()}
    if options.fixed:
        params["fixed"] = " ".join(f"{name}={value}" for name, value in options.fixed.items())
    return {name: str(value) for name, value in params.items()}


def _ends(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    low, high, log = (getattr(distribution, name) for name in ("low", "high", "log"))
    return f"{low} to {high}{', logarithmic' if log else ''}"


def _say_where(uri: str, experiment: str) -> None:
    address = urlsplit(uri)
    shown = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"  # without a password
    shown = uri if uri.startswith("sqlite") else shown
    where = f"experiment {experiment!r} at {shown}"
    logger.info("MLflow: %s", where, extra=with_event(Address("MLflow", where)))
