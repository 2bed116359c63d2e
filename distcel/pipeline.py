"""The stages in their order: base learners, search, refit, test. Each one resumes."""

from __future__ import annotations

import platform
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import torch
from torch import Tensor

from distcel.data.crossfit import hold_out
from distcel.data.splits import Splits
from distcel.evaluate.launch import measure_test
from distcel.execute.pool import WorkerPool
from distcel.prepare import Prepared
from distcel.report.document import launch_report, launch_tables
from distcel.search.refit import refit_best
from distcel.search.selection import SelectionTask
from distcel.search.trials import TrialStore, first_params
from distcel.search.tune import run_search
from distcel.serve.ensemble import save_ensemble
from distcel.storage.files import (
    DamagedFileError,
    content_key,
    put_aside,
    write_atomically,
    write_json,
)
from distcel.storage.machine import describe_machine
from distcel.tracking.live import LiveUpdates
from distcel.tracking.records import Outcome, SearchIdentity
from distcel.train.cache import PredictionCache
from distcel.train.fleet import Fleet
from distcel.train.trial_record import TrialRecord

if TYPE_CHECKING:
    from distcel.tracking.mlflow import Tracker

_PACKAGES = (
    *("distcel", "torch", "torchvision", "ray", "optuna", "mlflow", "pyarrow", "numpy"),
    *("scikit-learn", "scipy", "pillow"),
)
_EXTRA_PACKAGES = ("deslib",)


def run(prepared: Prepared, pool: WorkerPool) -> dict[str, Any]:
    """Run the stages that are not done yet, on the cluster that Ray is connected to.

    Returns:
        dict: the content of `results.json`, whose keys the README lists.

    Raises:
        RunFailedError: a base learner diverged, actors kept dying, or no trial is complete.
    """
    train_base_learners(prepared, pool)
    store = TrialStore(prepared.search_folder / "trials")
    updates = LiveUpdates(lambda: _tracker(prepared), store.snapshot)
    outcome = None
    try:
        results, outcome = _search_and_test(prepared, pool, store)
    finally:
        updates.close(outcome, seconds=900 if outcome else 8)
    return results


def train_base_learners(prepared: Prepared, pool: WorkerPool) -> None:
    """Train the learners that vote, and their copies for each fold, where they are missing.

    Raises:
        RunFailedError: a base learner diverged, or actors kept dying.
    """
    experiment, plan, seed = prepared.experiment, prepared.plan, prepared.options.seed

    def train(splits: Splits, cache: PredictionCache, keys: Sequence[str], what: str) -> None:
        trained = Fleet(experiment, splits, cache, pool, plan, seed).train(prepared.specs, keys)
        print(f"{trained} {what} trained, {len(keys) - trained} from the cache")

    train(prepared.splits, prepared.cache, prepared.keys, "base learners")
    for number, fold in enumerate(prepared.folds, 1):
        print(f"fold {number} of {len(prepared.folds)}, predicted by copies that do not see it")
        rest = hold_out(prepared.splits, fold.held_out_S)
        train(rest, prepared.copies_cache, fold.keys, f"copies without fold {number}")


def _search_and_test(
    prepared: Prepared, pool: WorkerPool, store: TrialStore
) -> tuple[dict[str, Any], Outcome]:
    experiment, seed = prepared.experiment, prepared.options.seed
    train, valid = prepared.cached("train"), prepared.cached("valid")
    task = SelectionTask(experiment, prepared.plan, train, valid, seed)
    ref = ray.put(task)
    run_search(ref, prepared.search, store, pool, prepared.search_folder / "tune")
    network, best = refit_best(ref, store, pool, prepared.search_folder / "refit")
    print(f"refit of trial {best.number}: valid {best.valid_accuracy:.4f}")
    store.close(prepared.search.num_samples)
    measured = measure_test(prepared, task, best.params, network)
    results = _results(prepared, best, measured, store)
    print(launch_report(results))
    return results, _keep(prepared, best, network.state_dict, results)


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
        prepared.experiment.dataset,
        prepared.title,
        content_key([prepared.search_key, _own_id(options.run_dir)]),
        tags,
        artifacts,
    )
    return Tracker(options.mlflow_uri, identity)


def _own_id(run_dir: Path) -> str:
    """Tells equal searches in different run directories apart, also when one is moved."""
    path = run_dir / "id"
    if path.is_file() and not re.fullmatch(rb"[0-9a-f]{16}", path.read_bytes()):
        put_aside(DamagedFileError(path, "it is no id"))
    if not path.is_file():
        write_atomically(path, lambda file: file.write(secrets.token_hex(8).encode()))
    return path.read_text()


def _results(
    prepared: Prepared,
    best: TrialRecord,
    measured: Mapping[str, Any],
    store: TrialStore,
) -> dict[str, Any]:
    published = prepared.experiment.published
    return {
        "dataset": prepared.experiment.dataset,
        "preset": prepared.options.preset,
        "seed": prepared.options.seed,
        "selector_split": prepared.options.selector_split,
        "fixed": dict(prepared.options.fixed),
        "n_trials": len(store.finished()),
        "test_read_after": store.closed_after(),
        "note": prepared.experiment.note,
        "n_learners": len(prepared.specs),
        "n_classes": len(prepared.splits.class_names),
        "n_samples": {name: len(split.labels) for name, split in prepared.splits.by_name.items()},
        "n_duplicates": prepared.splits.n_duplicates,
        "first": first_params(store.snapshot(), prepared.search.first).as_dict(),
        "best": best.params.as_dict(),
        "valid_accuracy": best.valid_accuracy,
        **measured,
        "paper": asdict(published) if published else None,
        "seconds": _training_seconds(prepared, best, store),
        "machine": describe_machine(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": prepared.commit,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    there = [package for package in _EXTRA_PACKAGES if find_spec(package)]
    packages = {package: version(package) for package in [*_PACKAGES, *there]}
    return {"python": platform.python_version()} | packages


def _training_seconds(prepared: Prepared, best: TrialRecord, store: TrialStore) -> dict[str, float]:
    """By stage, what the trainings took on their workers, whichever launch they ran in."""
    specs, copies = prepared.specs, prepared.copies_cache
    base_learners = prepared.cache.seconds(specs, prepared.keys)
    base_learners += sum(copies.seconds(specs, fold.keys) for fold in prepared.folds)
    seconds = {"base_learners": base_learners, "search": store.seconds, "refit": best.seconds}
    return {stage: round(value, 2) for stage, value in seconds.items()}


def _keep(
    prepared: Prepared,
    best: TrialRecord,
    weights: Mapping[str, Tensor],
    results: dict[str, Any],
) -> Outcome:
    """Write the report, the results and the ensemble into the run directory."""
    run_dir, names = prepared.options.run_dir, prepared.splits.class_names
    files = run_dir / "report.md", run_dir / "results.json"
    report = launch_report(results).encode()
    write_atomically(files[0], lambda file: file.write(report))
    write_json(files[1], results)
    learners = [
        (spec.name, {k: torch.tensor(v) for k, v in prepared.cache.weights(spec, key).items()})
        for spec, key in zip(prepared.specs, prepared.keys, strict=True)
    ]
    save_ensemble(run_dir / "ensemble", prepared.plan, best.params, names, weights, learners)
    metrics = {f"test_{name}": value for name, value in results["accuracy"].items()}
    metrics["best_valid_accuracy"] = results["valid_accuracy"]
    shape = prepared.splits.image_shape
    description = launch_tables(results)  # without the title, which is the name of the run
    return Outcome(description, metrics, files, run_dir / "ensemble", shape, len(names))
