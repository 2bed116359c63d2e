"""The search: Ray Tune runs the trials, Optuna's TPE proposes points, ASHA stops weak trials.

The trial records are the only truth. Every launch builds a fresh Tuner and a fresh Optuna study
in memory, tells the study what the records hold, and begins with what was interrupted.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

import optuna
import ray
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler
from ray.tune.search.optuna import OptunaSearch

from distcel.ensemble import SelectionTraining
from distcel.fleet import ActorPool
from distcel.networks import NetworkPlan
from distcel.predictions import CachedSplit
from distcel.training import DivergedError
from distcel.trials import TrialStore
from distcel.types import (
    EpochResult,
    Experiment,
    Gradient,
    SelectionParams,
    TrialRecord,
    first_point,
    require,
)

METRIC = "valid_accuracy"


@dataclass(frozen=True)
class SelectionTask:
    """What every trial trains on, put into Ray's object store once."""

    experiment: Experiment
    plan: NetworkPlan
    train: CachedSplit
    valid: CachedSplit
    seed: int

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """A fresh selection net and its training; the same seed gives the same start."""
        n_learners = self.train.probs_SNC.shape[1]
        net = self.plan.build(n_learners, self.seed).to(device)
        recipe = replace(self.experiment.selector_recipe, lr=params.lr)
        return SelectionTraining(net, self.train, self.valid, params, recipe, self.seed, device)


class SelectionTrial(tune.Trainable):
    """One trial: each Tune step is one epoch of the selection net."""

    def setup(self, config: dict[str, Any], task: SelectionTask) -> None:  # type: ignore[override]
        """Begin the first trial of this actor."""
        torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = task
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process, which spares it the imports."""
        self.selection = self.task.begin(SelectionParams(**new_config), self.device)
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; a training that diverges ends with the lowest accuracy."""
        try:
            result = self.selection.run_epoch()
        except DivergedError as error:  # raised, it would be tried a second time
            return {METRIC: 0.0, "diverged": str(error), "done": True}
        last = result.epoch >= self.task.experiment.selector_recipe.epochs
        return {METRIC: result.valid_accuracy, "epoch_result": result, "done": last}


class _Recorder(tune.Callback):
    """Writes what Tune reports into the trial store."""

    def __init__(self, store: TrialStore) -> None:
        self.store = store
        self.numbers: dict[str, int] = {}
        # The searcher proposes the interrupted trials first; `trials` is in its order.
        self.in_order = chain(store.interrupted(), count(store.next_number()))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps snapshots of its callbacks; nothing is restored from them

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        for created in trials[len(self.numbers) :]:
            self.numbers[created.trial_id] = next(self.in_order)
        number = self.numbers[trial.trial_id]
        self.store.start(TrialRecord(number, SelectionParams(**trial.config), "RUNNING"))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        number = self.numbers[trial.trial_id]
        if "diverged" in result:
            self._fail(number, result["diverged"])
        else:
            self.store.add_epoch(number, result["epoch_result"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        number = self.numbers[trial.trial_id]
        record = self.store[number]
        # Without an epoch, the time budget ended first: the trial is left interrupted.
        if record.state == "RUNNING" and record.epochs:
            self.store.finish(replace(record, state="COMPLETE"))
            print(_summary(self.store[number]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        reason = str(trial.get_error() or "unknown").strip().splitlines()[-1]
        self._fail(self.numbers[trial.trial_id], reason)

    def _fail(self, number: int, reason: str) -> None:
        self.store.finish(replace(self.store[number], state="FAILED", reason=reason))
        print(f"trial {number}: failed, {reason}")


def search_space(
    experiment: Experiment, n_learners: int, fixed: Mapping[str, Any]
) -> dict[str, BaseDistribution]:
    """The distributions that are searched: the experiment's, k over 1..n, and what is fixed.

    Raises:
        InvalidInputError: a fixed name or value, or the space itself, holds an invalid point.
    """
    space: dict[str, BaseDistribution] = {"k": IntDistribution(1, n_learners), **experiment.space}
    names = sorted(space)
    for name, value in fixed.items():
        require(name in space, f"hyperparameter in {names}", name, "fix one of these")
        space[name] = CategoricalDistribution([value])
    for params in _corners(space):
        params.require_k_within(n_learners)
    return space


def _corners(space: Mapping[str, BaseDistribution]) -> list[SelectionParams]:
    """The lowest and the highest point, whose validity is the space's."""

    def ends(name: str) -> tuple[Any, Any]:
        distribution = space[name]
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            if name == "gradient":
                known = get_args(Gradient)
                unknown = [choice for choice in choices if choice not in known]
                require(not unknown, f"gradients in {known}", unknown, "choose from these")
                return choices[0], choices[-1]
            return min(choices), max(choices)  # type: ignore[type-var]
        return distribution.low, distribution.high  # type: ignore[attr-defined]

    named = {name: ends(name) for name in space}
    return [SelectionParams(**{name: pair[i] for name, pair in named.items()}) for i in (0, 1)]


def run_search(
    task: SelectionTask,
    store: TrialStore,
    pool: ActorPool,
    folder: Path,
    num_samples: int,
    time_budget: float | None,
    fixed: Mapping[str, Any],
) -> list[TrialRecord]:
    """Bring the store up to `num_samples` finished trials and return all records.

    Args:
        task: what every trial trains on.
        store: finished and interrupted trials of earlier launches; the new ones are added.
        pool: how many trials run at once, and their resources.
        folder: for Tune's own files, which nothing is read from again.
        num_samples: trials in all, earlier launches included.
        time_budget: seconds for this launch's part of the search; None sets no limit.
        fixed: hyperparameters that are not searched.
    """
    finished = store.finished()
    remaining = num_samples - len(finished)
    if remaining <= 0:
        return store.snapshot()
    n_learners = task.train.probs_SNC.shape[1]
    space = search_space(task.experiment, n_learners, fixed)
    first = [] if store.snapshot() else [first_point(task.experiment, n_learners, fixed)]
    again = [store[number].params for number in store.interrupted()]
    searcher = _searcher(space, [*first, *again], finished, task.seed)
    max_epochs = task.experiment.selector_recipe.epochs
    shutil.rmtree(folder, ignore_errors=True)
    resources = {"cpu": pool.num_cpus, "gpu": pool.num_gpus}
    trainable = tune.with_resources(tune.with_parameters(SelectionTrial, task=task), resources)
    trainable.__qualname__ = SelectionTrial.__name__  # what the Ray dashboard shows
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            search_alg=searcher,
            scheduler=AsyncHyperBandScheduler(max_t=max(max_epochs, 2), reduction_factor=3),
            num_samples=remaining,
            max_concurrent_trials=min(pool.size, remaining),
            time_budget_s=time_budget,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent.resolve()),
            callbacks=[_Recorder(store)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=1),
            verbose=0,
        ),
    )
    tuner.fit()
    return store.snapshot()


def _searcher(
    space: dict[str, BaseDistribution],
    points: Sequence[SelectionParams],
    finished: Sequence[TrialRecord],
    seed: int,
) -> OptunaSearch:
    """TPE that has been told the finished trials and proposes `points` first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # A sampler of the same seed would propose the first launch's points again.
    sampler = optuna.samplers.TPESampler(seed=seed + 1000 * len(finished), constant_liar=True)
    searcher = OptunaSearch(
        space,
        metric=METRIC,
        mode="max",
        points_to_evaluate=[point.as_dict() for point in points],
        sampler=sampler,
    )
    for record in finished:
        failed = record.state == "FAILED"
        value = math.nan if failed else record.valid_accuracy
        searcher.add_evaluated_point(record.params.as_dict(), value, error=failed)
    return searcher


@ray.remote
def _refit(task: SelectionTask, params: SelectionParams) -> tuple[dict[str, Any], EpochResult]:
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    selection = task.begin(params, device)
    results = [selection.run_epoch() for _ in range(task.experiment.selector_recipe.epochs)]
    weights = selection.ensemble.selection_net.state_dict()
    return {name: value.cpu().numpy() for name, value in weights.items()}, results[-1]


def refit(
    task: SelectionTask, params: SelectionParams, pool: ActorPool
) -> tuple[dict[str, Any], EpochResult]:
    """Train the selection net for all its epochs on a worker: its weights and its last epoch."""
    options = _refit.options(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, name="refit")
    result: tuple[dict[str, Any], EpochResult] = ray.get(options.remote(task, params))
    return result


def _summary(record: TrialRecord) -> str:
    p, n_epochs = record.params, len(record.epochs)
    point = f"k={p.k} epsilon={p.epsilon:.3g} m={p.m} lr={p.lr:.3g} {p.gradient}"
    return f"trial {record.number}: valid {record.valid_accuracy:.4f} ({n_epochs} epochs) {point}"
