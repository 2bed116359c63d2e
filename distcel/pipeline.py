"""The stages in their order: base learners, search, refit, test. Each one resumes."""

from __future__ import annotations

import logging
import platform
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from distcel.execute.environment import environment
from distcel.execute.jobs import Executor
from distcel.report.launch import Evaluation, evaluate, tables
from distcel.rules.consensus import consensus_rules, said_by
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, refit_best
from distcel.search.search import run_search
from distcel.search.trials import TrialRecord, TrialStore, first_params
from distcel.serve.ensemble import save_ensemble
from distcel.storage.files import (
    DamagedFileError,
    content_key,
    put_aside,
    write_atomically,
    write_json,
)
from distcel.storage.provenance import describe_machine
from distcel.tracking.live import MLFLOW_ENVIRONMENT, LiveUpdates
from distcel.tracking.records import Outcome, SearchIdentity
from distcel.train.cache import PredictionCache
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import LearnerTask, train_learners
from distcel.train.selection import SelectionTask

if TYPE_CHECKING:
    from distcel.tracking.mlflow import Tracker

logger = logging.getLogger(__name__)

_PACKAGES = (
    *("distcel", "torch", "torchvision", "ray", "optuna", "mlflow", "pyarrow", "numpy"),
    *("scikit-learn", "scipy", "pillow"),
)
_EXTRA_PACKAGES = ("deslib",)


def launch(prepared: Prepared, executor: Executor) -> dict[str, Any]:
    """Run the stages that are not done yet.

    Returns:
        dict: the content of `results.json`; docs/run-directory.md lists its keys.

    Raises:
        RunFailedError: a base learner diverged, workers were lost over and over, or no trial is
            complete.
    """
    train_base_learners(prepared, executor)
    store = TrialStore(prepared.search_folder / "trials")
    outcome = None
    with _tracking(prepared, store) as close:
        try:
            results, outcome = _search_and_test(prepared, executor, store)
        finally:
            close(outcome)
    return results


def train_base_learners(prepared: Prepared, executor: Executor) -> None:
    """Train the learners that vote, and their copies for each fold, where they are missing.

    Raises:
        RunFailedError: a base learner diverged, or workers were lost over and over.
    """

    def train(task: LearnerTask, keys: Sequence[str], cache: PredictionCache, what: str) -> None:
        n_trained = train_learners(task, prepared.specs, keys, cache, executor)
        logger.info("%d %s trained, %d from the cache", n_trained, what, len(keys) - n_trained)

    train(prepared.learner_task(), prepared.keys, prepared.cache, "base learners")
    for number, fold in enumerate(prepared.folds, 1):
        logger.info(
            "fold %d of %d, predicted by copies that do not see it", number, len(prepared.folds)
        )
        what = f"copies without fold {number}"
        train(prepared.learner_task(fold), fold.keys, prepared.copies_cache, what)


@contextmanager
def _tracking(prepared: Prepared, store: TrialStore) -> Iterator[Callable[[Outcome | None], None]]:
    """MLflow kept up to date while the context is open; yields what ends its run."""
    if prepared.options.mlflow_uri == "none":
        yield lambda _: None
        return
    with environment(**MLFLOW_ENVIRONMENT):
        updates = LiveUpdates(lambda: _tracker(prepared), store.snapshot)
        yield lambda outcome: updates.close(outcome, seconds=900 if outcome else 8)


def _search_and_test(
    prepared: Prepared, executor: Executor, store: TrialStore
) -> tuple[dict[str, Any], Outcome]:
    experiment, task = prepared.experiment, prepared.selection_task()
    shared, folder = executor.share(task), prepared.search_folder
    run_search(shared, prepared.search, store, executor, folder / "tune")
    network, best = refit_best(shared, store, executor, folder / "refit")
    logger.info("refit of trial %d: valid %.4f", best.number, best.valid_accuracy)
    store.close(prepared.search.num_samples)
    evaluations = _test(prepared, task, SmartRule(best.params), network)
    n_duplicates, title = prepared.splits.n_duplicates, prepared.title
    n_learners, read_after = len(prepared.specs), store.closed_after()
    report = tables(experiment, evaluations, best, n_learners, n_duplicates, read_after, title)
    logger.info(report)
    results = _results(prepared, best, evaluations, store)
    return results, _keep(prepared, best, network.state_dict, report, results)


def _test(
    prepared: Prepared, task: SelectionTask, smart: SmartRule, network: TrainedNetwork
) -> dict[str, Evaluation]:
    """Read the test split, this once; FER2013's PrivateTest, where it can be told, alone too."""
    test = prepared.cached("test")
    said = {"e2e_cel": smart.predict(network, task, test).numpy()[None]}
    for name, draws in consensus_rules(smart.params.k, task.seed, task.valid).items():
        said[name] = said_by(draws, task.train, test)
    evaluations = {"": evaluate(said, test, prepared.specs)}
    ids = prepared.splits["test"].sample_ids.to_pylist()
    private_S = np.array(["PrivateTest_" in sample_id for sample_id in ids])
    if private_S.any() and not private_S.all():
        private = {name: draws[:, private_S] for name, draws in said.items()}
        title = f"PrivateTest alone ({private_S.sum()})"
        evaluations[title] = evaluate(private, test.where(private_S), prepared.specs)
    return evaluations


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
    evaluations: Mapping[str, Evaluation],
    store: TrialStore,
) -> dict[str, Any]:
    published, (whole, *parts) = prepared.experiment.published, evaluations.values()
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
        "accuracy": dict(whole.accuracy),
        "private_test_accuracy": dict(parts[0].accuracy) if parts else None,
        "valid_accuracy": best.valid_accuracy,
        "specialised": whole.specialised,
        "complementary": whole.complementary,
        "overall": whole.overall,
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
    report: str,
    results: dict[str, Any],
) -> Outcome:
    """Write the report, the results and the ensemble into the run directory."""
    run_dir, names = prepared.options.run_dir, prepared.splits.class_names
    files = run_dir / "report.md", run_dir / "results.json"
    write_atomically(files[0], lambda file: file.write(report.encode()))
    write_json(files[1], results)
    learners = [
        (spec.name, {k: torch.tensor(v) for k, v in prepared.cache.weights(spec, key).items()})
        for spec, key in zip(prepared.specs, prepared.keys, strict=True)
    ]
    save_ensemble(run_dir / "ensemble", prepared.plan, best.params, names, weights, learners)
    metrics = {f"test_{name}": value for name, value in results["accuracy"].items()}
    metrics["best_valid_accuracy"] = results["valid_accuracy"]
    description = report.partition("\n\n")[2]  # without the title, which the run has for a name
    shape = prepared.splits.image_shape
    return Outcome(description, metrics, files, run_dir / "ensemble", shape, len(names))
