"""What tests have MLflow track."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distcel.tracking.records import Outcome, SearchIdentity, TrackedData, TrackedModel

DATA = TrackedData("digits", "0123abcd", "file:///data", {"train": 8, "test": 2}, (3, 16, 16), 3)
BEST = {"k": 3, "epsilon": 0.1, "gradient": "exact"}


def identity(key: str, artifacts: Path, experiment: str = "distcel digits") -> SearchIdentity:
    tags, params = {"run_dir": "/r"}, {"seed": "0"}
    return SearchIdentity(experiment, DATA, "run", key, tags, params, artifacts, commit=None)


def outcome(
    metrics: Mapping[str, float],
    ensemble: Path,
    *files: Path,
    description: str = "",
    register: str | None = None,
) -> Outcome:
    """The outcome of a search whose ensemble is that of the fixture `saved_ensemble`."""
    model = TrackedModel(ensemble, np.full((1, 3, 16, 16), 127, np.uint8), 3)
    return Outcome(description, metrics, BEST, files, model, register)
