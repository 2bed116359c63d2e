"""What MLflow shows of a search, beside its trials, and about a reproduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SearchIdentity:
    """What a search is called in MLflow.

    Attributes:
        dataset: the MLflow experiment is named after it.
        run_name: of the parent run.
        key: digest of the search; a second launch of it goes on with the same parent run.
        tags: facts about the search, shown with the parent run.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """

    dataset: str
    run_name: str
    key: str
    tags: Mapping[str, str]
    artifacts: Path


@dataclass(frozen=True)
class Outcome:
    """What the end of a search adds to its parent run.

    Attributes:
        description: Markdown that the run's page begins with.
        metrics: test accuracies and the like.
        files: reports.
        ensemble: the folder that `save_ensemble` wrote, logged as a model; None where a function of
            the user's builds its networks, which the model could not find.
        image_shape: channels, height and width of its images.
        n_classes: C.
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
        dataset: the MLflow experiment is named after it.
        run_name: of its run.
        key: a later reproduction with the same one replaces it.
        description: Markdown that the run's page begins with.
        params: what was asked for.
        metrics: test accuracies and the like.
        curves: metrics over k.
        files: report, results and figures.
        artifacts: folder for artifacts where the URI is a database; servers have their own.
    """

    dataset: str
    run_name: str
    key: str
    description: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Mapping[int, float]]
    files: Sequence[Path]
    artifacts: Path
