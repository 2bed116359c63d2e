"""What `results.json` and `details.json` have beside what is measured on the test split."""

from __future__ import annotations

import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from optuna.distributions import distribution_to_json

from distcel.search.prepare import Prepared
from distcel.search.trials import TrialRecord, TrialStore, first_params
from distcel.storage.provenance import describe_machine, source_digest

_PACKAGES = (
    "distcel",
    "torch",
    "torchvision",
    "ray",
    "optuna",
    "mlflow",
    "pyarrow",
    "numpy",
    "scikit-learn",
    "scipy",
    "pillow",
)
_EXTRA_PACKAGES = ("deslib",)


def launch_results(
    prepared: Prepared, best: TrialRecord, over_k: list[float], store: TrialStore
) -> dict[str, Any]:
    """What `results.json` has beside what is measured on test; docs/run-directory.md lists it.

    Args:
        prepared: the launch, whose search is closed.
        best: the best trial, trained for all its epochs, with its k chosen.
        over_k: the accuracy on valid at each k = 1..n, of which k was chosen; empty if none was.
        store: the trials.
    """
    experiment, options = prepared.experiment, prepared.options
    published, learners = experiment.published, _learner_trainings(prepared)
    return {
        "dataset": experiment.dataset,
        "preset": options.preset,
        "seed": options.seed,
        "selector_split": options.selector_split,
        "fixed": dict(options.fixed),
        "precision": {
            "base_learners": experiment.learner_recipe.precision,
            "selection_net": experiment.selector_recipe.precision,
        },
        "n_trials": len(store.finished()),
        "test_read_after": store.closed_after(),
        "note": experiment.note,
        "n_learners": len(prepared.specs),
        "n_classes": len(prepared.splits.class_names),
        "n_samples": {name: len(split.labels_S) for name, split in prepared.splits.by_name.items()},
        "n_duplicates": prepared.splits.n_duplicates,
        "first": first_params(store.snapshot(), prepared.search.first).as_dict(),
        "best": best.params.as_dict(),
        "valid_accuracy": best.valid_accuracy,
        "valid_accuracy_over_k": over_k or None,
        "paper": asdict(published) if published else None,
        "seconds": _training_seconds((seconds for seconds, _ in learners), best, store),
        "machine": describe_machine(),
        "workers": _workers(
            {
                "base_learners": [worker for _, worker in learners],
                "trials": [record.worker for record in store.finished()],
                "refit": [best.worker],
            }
        ),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": prepared.commit,
        "source_digest": source_digest(),
        "versions": _versions(),
    }


def launch_details(prepared: Prepared, store: TrialStore) -> dict[str, Any]:
    """What `details.json` has of the search, and the names that its other parts refer to."""
    search = prepared.search
    return {
        "class_names": list(prepared.splits.class_names),
        "learners": [spec.name for spec in prepared.specs],
        "num_samples": search.num_samples,
        "imagenet_weights": prepared.options.imagenet_weights,
        "space": {name: distribution_to_json(d) for name, d in search.space.items()},
        "trials": [record.facts() for record in store.finished()],
    }


def _versions() -> dict[str, str]:
    extra = [package for package in _EXTRA_PACKAGES if find_spec(package)]
    packages = {package: version(package) for package in [*_PACKAGES, *extra]}
    return {"python": platform.python_version()} | packages


def _learner_trainings(prepared: Prepared) -> list[tuple[float, dict[str, str]]]:
    """Seconds and worker of each base learner's training, and of each copy's."""
    if prepared.answers is not None:
        return []
    specs, copies = prepared.specs, prepared.copies_cache
    found = prepared.cache.trainings(specs, prepared.keys)
    return found + [one for fold in prepared.folds for one in copies.trainings(specs, fold.keys)]


def _training_seconds(
    base_learners: Iterable[float], best: TrialRecord, store: TrialStore
) -> dict[str, float]:
    """Seconds that the trainings of each stage took on their workers, in whichever launch."""
    seconds = {"base_learners": sum(base_learners), "search": store.seconds, "refit": best.seconds}
    return {stage: round(value, 2) for stage, value in seconds.items()}


def _workers(by_stage: Mapping[str, Iterable[Mapping[str, str]]]) -> list[dict[str, Any]]:
    """Each worker's facts that differ, with how many of a stage's trainings have them."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for stage, found in by_stage.items():
        for worker in filter(None, found):
            counts[json.dumps(dict(worker), sort_keys=True)][stage] += 1
    return [
        json.loads(key) | {stage: of[stage] for stage in by_stage}
        for key, of in sorted(counts.items())
    ]
