"""The stages in their order: base learners, search, refit, test. Each one resumes."""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import distribution_to_json

from distcel.evaluate.compare import compare_run
from distcel.evaluate.launch import measure_test
from distcel.execute.jobs import Executor
from distcel.execute.progress import RunBegan, StageBegan, with_event
from distcel.experiment.architecture import OwnArchitecture
from distcel.report import document
from distcel.report.page import write_page
from distcel.report.parts import reproduction_title
from distcel.search.prepare import Prepared
from distcel.search.refit import (
    ChosenEnsemble,
    PricedRule,
    SmartRule,
    choose_k,
    choose_price,
    refit_best,
)
from distcel.search.search import run_search
from distcel.search.trials import TrialRecord, TrialStore, first_params
from distcel.serve.saved import save_ensemble
from distcel.serve.selector import save_selector
from distcel.storage.files import content_key, write_atomically, write_json
from distcel.storage.provenance import describe_machine, source_digest
from distcel.tracking.records import Outcome, TrackedModel, TrackedReproduction
from distcel.tracking.track import experiment_name, track_reproduction, tracked, tracked_data
from distcel.train.cache import PredictionCache
from distcel.train.learner import train_learners
from distcel.train.precision import describe_precision
from distcel.train.selection import TrainingTask

logger = logging.getLogger(__name__)

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
# By trackers, where they exist.
_SHOWN = ("report.md", "report.html", "results.json", "run.json")


def launch(prepared: Prepared, executor: Executor) -> dict[str, Any]:
    """Run the stages that are not done yet.

    Returns:
        dict: the content of `results.json`; docs/run-directory.md lists its keys.

    Raises:
        RunFailedError: a base learner diverged, workers were lost over and over, or no trial is
            complete.
    """
    title, cache = prepared.title, prepared.cache.folder
    began = RunBegan(title, prepared.experiment.dataset, cache)
    logger.debug("%s", title, extra=with_event(began))
    if prepared.answers is None:
        train_base_learners(prepared, executor)
    store = TrialStore(prepared.search_folder / "trials")
    outcome = None
    with tracked(prepared, store) as close:
        try:
            results, outcome = _search_and_test(prepared, executor, store)
        finally:
            close(outcome)
    return results


def launch_and_compare(
    prepared: Prepared, executor: Executor, beyond: bool, gradients: bool
) -> dict[str, Any]:
    """Run one seed of a reproduction; returns its `results.json` and its comparison."""
    results = launch(prepared, executor)
    return {"launch": results, "comparison": compare_run(prepared, executor, beyond, gradients)}


def report_reproduction(first: Prepared, results: dict[str, Any], folder: Path) -> None:
    """Write a reproduction's report, results and figures, and log it with the trackers.

    Args:
        first: the launch of the first seed.
        results: the content of the reproduction's `results.json`.
        folder: the folder for the files.
    """
    logger.info("%s", document.write_reproduction(folder, results))
    write_page(folder)
    seeds = ", ".join(str(seed["launch"]["seed"]) for seed in results["seeds"])
    title, options = reproduction_title(results), first.options
    reproduction = TrackedReproduction(
        experiment=experiment_name(first.experiment.dataset),
        data=tracked_data(first),
        run_name=f"reproduction of {title}",
        key=content_key([title, str(folder.resolve())]),
        description=document.reproduction_tables(results),
        params={
            "dataset": first.experiment.dataset,
            "preset": options.preset,
            "selector_split": options.selector_split,
            "seeds": seeds,
            **{name: str(value) for name, value in options.fixed.items()},
        },
        metrics=document.reproduction_metrics(results),
        curves=document.reproduction_curves(results),
        files=sorted(path for path in folder.iterdir() if path.is_file()),
        artifacts=options.run_dir.parent / "mlflow-artifacts",
        commit=first.commit,
    )
    track_reproduction(options.mlflow_uri, reproduction)


def train_base_learners(prepared: Prepared, executor: Executor) -> None:
    """Train the learners that vote, and their copies for each fold, where they are missing.

    Raises:
        RunFailedError: a base learner diverged, or workers were lost over and over.
    """

    def train(task: TrainingTask, keys: Sequence[str], cache: PredictionCache, what: str) -> None:
        n_trained = train_learners(task, prepared.specs, keys, cache, executor, what)
        logger.info("%d %s trained, %d from the cache", n_trained, what, len(keys) - n_trained)

    logger.info("%s", describe_precision(prepared.experiment))
    train(prepared.learner_task(), prepared.keys, prepared.cache, "base learners")
    for number, fold in enumerate(prepared.folds, 1):
        n_folds = len(prepared.folds)
        logger.info("fold %d of %d, predicted by copies that do not see it", number, n_folds)
        what = f"copies without fold {number}"
        train(prepared.learner_task(fold), fold.keys, prepared.copies_cache, what)


def _search_and_test(
    prepared: Prepared, executor: Executor, store: TrialStore
) -> tuple[dict[str, Any], Outcome]:
    task, folder = prepared.selection_task(), prepared.search_folder
    shared = executor.share(task)
    run_search(shared, prepared.search, store, executor, folder / "tune")
    network, best = refit_best(shared, store, executor, folder / "refit")
    logger.info("refit of trial %d: valid %.4f", best.number, best.valid_accuracy)
    params, over_k = choose_k(task, best.params, network)
    if over_k:
        logger.info("k = %d of all, the best on valid: %.4f", params.chosen_k, max(over_k))
    best, chosen = replace(best, params=params), ChosenEnsemble(SmartRule(params), network)
    if task.prices is not None:
        chosen = choose_price(shared, task, chosen, executor, folder / "refit")
    store.close(prepared.search.num_samples)
    logger.debug("test", extra=with_event(StageBegan("test")))
    # The test split is read only here, after everything is chosen.
    measured, detailed = measure_test(prepared, task, chosen)
    results = _results(prepared, best, over_k, store) | measured
    details = _details(prepared, store) | detailed
    return results, _write(prepared, chosen, results, details)


def _results(
    prepared: Prepared, best: TrialRecord, over_k: list[float], store: TrialStore
) -> dict[str, Any]:
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


def _details(prepared: Prepared, store: TrialStore) -> dict[str, Any]:
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


def _write(
    prepared: Prepared, chosen: ChosenEnsemble, results: dict[str, Any], details: dict[str, Any]
) -> Outcome:
    """Write reports, results and ensemble into the run directory; returns what trackers show."""
    run_dir, names = prepared.options.run_dir, prepared.splits.class_names
    report = document.launch_report(results)
    logger.info("%s", report)
    write_atomically(run_dir / "report.md", lambda file: file.write(report.encode()))
    write_json(run_dir / "details.json", details)
    write_json(run_dir / "results.json", results)
    write_page(run_dir)
    folder = run_dir / "ensemble"
    _save(prepared, chosen, results, folder)
    metrics = {f"test_{name}": value for name, value in results["accuracy"].items()}
    if results["pruned"]:
        metrics["test_pruned"] = results["pruned"]["accuracy"]
    metrics["best_valid_accuracy"] = results["valid_accuracy"]
    model = None
    if prepared.answers is None and not isinstance(prepared.plan.architecture, OwnArchitecture):
        # Their mean, since an image of valid may be a person's face.
        images = prepared.splits["valid"].images_SCHW[:256]
        example = images.mean(0, keepdims=True).astype(images.dtype)
        model = TrackedModel(folder, example, len(names))
    files = [run_dir / name for name in _SHOWN if (run_dir / name).is_file()]
    tables, name = document.launch_tables(results), prepared.options.register
    return Outcome(tables, metrics, results["best"], files, model, name)


def _save(
    prepared: Prepared, chosen: ChosenEnsemble, results: dict[str, Any], folder: Path
) -> None:
    """Write the folder to take away: with the base learners, if they were trained here."""
    plan, names, smart = prepared.plan, prepared.splits.class_names, chosen.rule
    weights, temperature = chosen.network.state_dict, results["calibration"]["temperature"]
    if prepared.answers is not None:
        predictors, prices = prepared.answers.names, prepared.prices
        weight = smart.price_weight if isinstance(smart, PricedRule) else None
        own = (temperature, prices, weight, prepared.answers.raised)
        save_selector(folder, plan, smart.params, names, predictors, weights, *own)
        return
    learners = [
        (spec.name, {k: torch.tensor(v) for k, v in prepared.cache.weights(spec, key).items()})
        for spec, key in zip(prepared.specs, prepared.keys, strict=True)
    ]
    pruned = results["pruned"]
    save_ensemble(folder, plan, smart.params, names, weights, learners, temperature, pruned)
