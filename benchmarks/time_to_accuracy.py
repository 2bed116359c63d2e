"""How soon a search reaches a valid accuracy: distcel, Tune at random, and Optuna alone.

    python -m benchmarks.time_to_accuracy --data-dir DIR

CIFAR-10 at preset quick, thinned, one budget of seconds for each, on two cores, with seeds
0, 1, 2 in turns. All search the same space over the same cached predictions. `Tune, random` draws
at random, stops nothing early and keeps Tune's defaults. `Optuna alone` is one process with two
threads, TPE and Optuna's own successive halving. Ray is running; its start (see start-up) would
come on top of the first two.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import optuna
import ray
import torch
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.measure import table
from distcel.execute.cluster import cluster_pool, connect
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.errors import DivergedError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SelectionParams
from distcel.pipeline import train_base_learners
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.search.search import run_search
from distcel.search.trials import TrialStore
from distcel.search.tune import METRIC, SelectionTrial
from distcel.train.selection import TrainingTask

SECONDS, SEEDS, MAX_SAMPLES = 60.0, (0, 1, 2), 6000
# Seconds since the start and valid accuracy, of every epoch of every trial.
Course = list[tuple[float, float]]


def prepared_run(data_dir: Path, run_dir: Path, seed: int) -> Prepared:
    """CIFAR-10 with its base learners trained, on the cluster that Ray is connected to."""
    experiment = replace(load_experiment("cifar10", "quick"), max_samples=MAX_SAMPLES)
    options = Options("quick", data_dir, run_dir, seed, 500, SECONDS, "sqlite:///unused.db")
    prepared = prepare(experiment, options)
    train_base_learners(prepared, RayExecutor(lambda: cluster_pool(1.0)))
    return prepared


def distcel_search(prepared: Prepared, task: TrainingTask, shared: Any) -> Course:
    """The search that this project is."""
    with TemporaryDirectory() as folder:
        store = TrialStore(Path(folder) / "trials")
        started = time.time()
        executor, tune_folder = RayExecutor(lambda: cluster_pool(1.0)), Path(folder, "tune")
        records = run_search(executor.share(task), prepared.search, store, executor, tune_folder)
    return [
        (result.ended_ms / 1000 - started, result.valid_accuracy)
        for record in records
        for result in record.epochs
    ]


class _Course(tune.Callback):
    def __init__(self) -> None:
        self.started, self.course = time.time(), Course()

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        self.course.append((time.time() - self.started, result[METRIC]))


def tune_at_random(prepared: Prepared, task: TrainingTask, shared: Any) -> Course:
    """Tune as it comes, with random search."""
    sampler = optuna.samplers.RandomSampler(seed=prepared.options.seed)
    course = _Course()
    with TemporaryDirectory() as folder:
        trainable = tune.with_resources(
            tune.with_parameters(SelectionTrial, task=shared), {"cpu": 1.0}
        )
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                search_alg=OptunaSearch(
                    prepared.search.space, metric=METRIC, mode="max", sampler=sampler
                ),
                num_samples=500,
                max_concurrent_trials=2,
                time_budget_s=SECONDS,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=folder,
                callbacks=[course],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    return course.course


def optuna_alone(prepared: Prepared, task: TrainingTask, shared: Any) -> Course:
    """One process, two threads."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(2)
    course, started = Course(), time.time()
    epochs = task.experiment.selector_recipe.epochs

    def objective(trial: optuna.Trial) -> float:
        names = prepared.search.space.items()
        values = {name: trial._suggest(name, distribution) for name, distribution in names}
        selection = task.begin(SelectionParams(**values), torch.device("cpu"))
        accuracy = 0.0
        for epoch in range(epochs):
            try:
                accuracy = selection.run_epoch().valid_accuracy
            except DivergedError:
                raise optuna.TrialPruned from None
            course.append((time.time() - started, accuracy))
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            if time.time() - started > SECONDS:
                trial.study.stop()
                break
        return accuracy

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=prepared.options.seed),
        pruner=optuna.pruners.SuccessiveHalvingPruner(reduction_factor=3),
    )
    study.optimize(objective, n_trials=500)
    return course


SEARCHES: dict[str, Callable[[Prepared, TrainingTask, Any], Course]] = {
    "distcel": distcel_search,
    "Tune, random": tune_at_random,
    "Optuna alone": optuna_alone,
}


def reached(course: Course, accuracy: float) -> float:
    """Seconds until some trial first had this accuracy; infinite if none had."""
    return min((at for at, value in course if value >= accuracy), default=float("inf"))


def _times_as_long(seconds: list[float], others: list[float]) -> str:
    """Median over the seeds of how many times the others' seconds.

    That is infinite where these alone do not reach it, 0 where the others alone do not, and 1
    where neither does.
    """
    pairs = zip(seconds, others, strict=True)
    return f"{statistics.median(1.0 if own == other else own / other for own, other in pairs):.2f}"


def report(data_dir: Path | None) -> str:
    """The table, as Markdown."""
    if data_dir is None:
        return "Not measured: no `--data-dir` with CIFAR-10 was given."
    courses: dict[str, list[Course]] = {name: [] for name in SEARCHES}
    with connect(None), TemporaryDirectory() as folder:
        for seed in SEEDS:
            prepared = prepared_run(data_dir, Path(folder) / str(seed), seed)
            task = prepared.selection_task()
            shared = ray.put(task)
            names = list(SEARCHES)
            for name in names[seed:] + names[:seed]:
                courses[name].append(SEARCHES[name](prepared, task, shared))
    bests = {name: [max(v for _, v in c) for c in runs] for name, runs in courses.items()}
    rows = [
        [
            name,
            ", ".join(f"{100 * best:.2f}" for best in bests[name]),
            ", ".join(str(len(course)) for course in courses[name]),
        ]
        for name in SEARCHES
    ]
    head = ["search", f"best valid accuracy in {SECONDS:.0f} s, %, seeds {SEEDS}", "epochs"]
    for rank, who in enumerate(("all three reach", "two reach")):
        targets = [sorted(best[i] for best in bests.values())[rank] for i in range(len(SEEDS))]
        times = {
            name: [reached(course, target) for course, target in zip(runs, targets, strict=True)]
            for name, runs in courses.items()
        }
        accuracies = ", ".join(f"{100 * target:.2f}" for target in targets)
        head += [f"s until {accuracies} (what {who})", "times distcel's, median"]
        for row in rows:
            own = times[row[0]]
            row.append(", ".join(f"{value:.0f}" for value in own))
            row.append(_times_as_long(own, times["distcel"]))
    return table(head, rows)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path)
    print(report(flags.parse_args().data_dir))
