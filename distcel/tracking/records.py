"""Records of a search and of a reproduction for MLflow; trials have their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SearchIdentity:
    """How MLflow identifies a search.

    Attributes:
        experiment: the name of the MLflow experiment.
        run_name: the name of the parent run.
        key: the digest of the search; a second launch of it continues the same parent run.
        tags: facts about the search, shown with the parent run.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """

    experiment: str
    run_name: str
    key: str
    tags: Mapping[str, str]
    artifacts: Path


@dataclass(frozen=True)
class Outcome:
    """What the end of a search adds to its parent run.

    Attributes:
        description: Markdown that the run's page begins with.
        metrics: accuracies on test and on valid, as fractions.
        files: reports.
        ensemble: the folder that `save_ensemble` wrote, logged as a model; None where a user's
            function builds its networks, which the model could not find.
        image_shape: channels, height and width of its images.
        n_classes: number of classes, C.
    """

    description: str
    metrics: Mapping[str, float]
    files: Sequence[Path]
    ensemble: Path | None
    image_shape: tuple[int, int, int]
    n_classes: int


@dataclass(frozen=True)
class TrackedReproduction:
    """The paper's evaluation over several seeds, as MLflow shows it.

    Attributes:
        experiment: the name of the MLflow experiment.
        run_name: the name of its run.
        key: a later reproduction with the same key replaces it.
        description: Markdown that the run's page begins with.
        params: what the reproduction was called with.
        metrics: accuracies on test and calibration errors, as fractions.
        curves: accuracies on test by k, as fractions.
        files: report, results and figures.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """

    experiment: str
    run_name: str
    key: str
    description: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[int, float]]
    files: Sequence[Path]
    artifacts: Path
