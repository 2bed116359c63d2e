"""Records of a search and of a reproduction for MLflow; trials have their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrackedData:
    """The data set, as MLflow shows it.

    Attributes:
        name: its name.
        digest: the digest of the drawn samples.
        source: the URI of its folder, or the function that loads it.
        n_samples: the number of samples of each split.
        image_shape: channels, height and width of the images; (F,) of numbers in their place.
        n_classes: number of classes, C.
    """

    name: str
    digest: str
    source: str
    n_samples: Mapping[str, int]
    image_shape: tuple[int, ...]
    n_classes: int


@dataclass(frozen=True)
class SearchIdentity:
    """How MLflow identifies a search.

    Attributes:
        experiment: the name of the MLflow experiment.
        data: the data set.
        run_name: the name of the parent run.
        key: the digest of the search; a second launch of it continues the same parent run.
        tags: facts about the search, shown with the parent run.
        params: what the search was called with, as far as every launch of it has the same:
            MLflow lets no parameter change.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
        commit: of distcel's checkout, as `provenance.describe_commit` returns it.
    """

    experiment: str
    data: TrackedData
    run_name: str
    key: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    artifacts: Path
    commit: str | None


@dataclass(frozen=True)
class TrackedModel:
    """The smart ensemble, as it is logged.

    Attributes:
        ensemble: the folder that `save_ensemble` wrote.
        example_BCHW: uint8 images that show what it takes, (B, channels, height, width).
        n_classes: number of classes, C.
    """

    ensemble: Path
    example_BCHW: NDArray[np.uint8]
    n_classes: int


@dataclass(frozen=True)
class Outcome:
    """What the end of a search adds to its parent run.

    Attributes:
        description: Markdown that the run's page begins with.
        metrics: accuracies on test and on valid, as fractions.
        best: the best trial's point.
        files: reports and figures.
        model: the smart ensemble; None where a user's function builds its networks, which the
            model could not find.
        register: the model's name in the model registry; None registers nothing.
    """

    description: str
    metrics: Mapping[str, float]
    best: Mapping[str, Any]
    files: Sequence[Path]
    model: TrackedModel | None
    register: str | None


@dataclass(frozen=True)
class TrackedReproduction:
    """The paper's evaluation over several seeds, as MLflow shows it.

    Attributes:
        experiment: the name of the MLflow experiment.
        data: the data set as the first seed drew it.
        run_name: the name of its run.
        key: a later reproduction with the same key replaces it.
        description: Markdown that the run's page begins with.
        params: what the reproduction was called with.
        metrics: accuracies on test and calibration errors, as fractions.
        curves: accuracies on test by k, as fractions.
        files: report, results and figures.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
        commit: of distcel's checkout, as `provenance.describe_commit` returns it.
    """

    experiment: str
    data: TrackedData
    run_name: str
    key: str
    description: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[int, float]]
    files: Sequence[Path]
    artifacts: Path
    commit: str | None
