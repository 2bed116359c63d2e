"""The stages in their order: base learners, search, refit, test. Each one resumes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distcel.evaluate.compare import compare_run
from distcel.evaluate.launch import measure_test
from distcel.evaluate.results import launch_details, launch_results
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
from distcel.search.trials import TrialStore
from distcel.serve.saved import save_ensemble
from distcel.serve.selector import save_selector
from distcel.storage.files import content_key, write_atomically, write_json
from distcel.tracking.records import Outcome, TrackedModel, TrackedReproduction
from distcel.tracking.track import experiment_name, track_reproduction, tracked, tracked_data
from distcel.train.cache import PredictionCache
from distcel.train.learner import train_learners
from distcel.train.precision import describe_precision
from distcel.train.selection import TrainingTask

logger = logging.getLogger(__name__)

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
    results = launch_results(prepared, best, over_k, store) | measured
    details = launch_details(prepared, store) | detailed
    return results, _write(prepared, chosen, results, details)


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
