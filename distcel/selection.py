"""What a worker does for the search: one trial of Tune, and the refit of the best one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # with it, Ctrl-C ends fit() as if done

import ray
import torch
from ray import tune
from safetensors.torch import load_file
from torch import Tensor, nn

from distcel.actor_pool import ActorPool
from distcel.checks import RunFailedError
from distcel.ensemble import SelectionTraining, smart_ensemble
from distcel.fleet import raise_cause, worker_device
from distcel.networks import NetworkPlan
from distcel.predictions import CachedSplit
from distcel.storage import is_intact, safetensors_bytes, write_checked
from distcel.trained_network import TrainedNetwork
from distcel.training import DivergedError
from distcel.trials import TrialStore, best_trial
from distcel.types import Experiment, SelectionParams, TrialRecord

METRIC = "valid_accuracy"


@dataclass(frozen=True)
class SelectionTask:
    """What every trial trains on, put into Ray's object store once."""

    experiment: Experiment
    plan: NetworkPlan
    train: CachedSplit
    valid: CachedSplit
    seed: int

    def selection_net(self, device: torch.device) -> nn.Module:
        """An untrained one; the same seed gives the same."""
        return self.plan.build(self.train.probs_SNC.shape[1], self.seed).to(device)

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """A fresh smart ensemble and its training; the same seed gives the same start."""
        _, n_learners, n_classes = self.train.probs_SNC.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        net = self.selection_net(device)
        ensemble = smart_ensemble(net, params, n_learners, n_classes, generator).to(device)
        return self.begin_with(ensemble, params.lr, device)

    def begin_with(self, ensemble: nn.Module, lr: float, device: torch.device) -> SelectionTraining:
        """The training of any ensemble, by the selection net's recipe."""
        recipe = replace(self.experiment.selector_recipe, lr=lr)
        return SelectionTraining(ensemble, self.train, self.valid, recipe, self.seed, device)


TaskRef = ray.ObjectRef[SelectionTask]


class SelectionTrial(tune.Trainable):
    """One trial: each Tune step is one epoch of the selection net."""

    def setup(self, config: dict[str, Any], task: SelectionTask) -> None:  # type: ignore[override]
        """Take the first trial of this actor."""
        torch.set_num_threads(1)
        self.device = worker_device()
        self.task = task
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process, which spares it the imports."""
        self.params = SelectionParams(**new_config)
        self.selection: SelectionTraining | None = None  # Tune retries what fails in a step alone
        return True

    def step(self) -> dict[str, Any]:
        """Train for one epoch; a training that diverges ends with the lowest accuracy."""
        if self.selection is None:
            self.selection = self.task.begin(self.params, self.device)
        try:
            result = self.selection.run_epoch()
        except DivergedError as error:  # raised, it would be tried a second time
            return {METRIC: 0.0, "diverged": str(error), "done": True}
        last = result.epoch >= self.task.experiment.selector_recipe.epochs
        return {METRIC: result.valid_accuracy, "epoch_result": result, "done": last}


@ray.remote
def _refit(task: SelectionTask, params: SelectionParams) -> TrainedNetwork:
    torch.set_num_threads(1)
    return task.begin(params, worker_device()).run()


Refitted = tuple[dict[str, Tensor], TrialRecord]


class _Refits:
    """The refits of some trials that are kept in a folder, and what is missing of them."""

    def __init__(self, task: TaskRef, pool: ActorPool, folder: Path) -> None:
        self.task, self.folder, self.store = task, folder, TrialStore(folder)
        self.options = _refit.options(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, name="refit")

    def _path(self, trial: TrialRecord) -> Path:
        return self.folder / f"{trial.number:05d}.safetensors"

    def holds(self, trial: TrialRecord) -> bool:
        done = trial.number in self.store and self.store[trial.number].params == trial.params
        return done and is_intact(self._path(trial))

    def start(self, trial: TrialRecord) -> Any:
        return self.options.remote(self.task, trial.params)

    def keep(self, trial: TrialRecord, started: Any) -> None:
        """Wait for what was started, and keep it."""
        try:
            trained = ray.get(started)
        except ray.exceptions.RayTaskError as error:
            raise_cause(error)
        except ray.exceptions.RayError as error:
            reason = str(error).partition("\n")[0]
            raise RunFailedError(f"the refit of trial {trial.number} failed: {reason}") from None
        content = safetensors_bytes(trained.weights)
        write_checked(self._path(trial), lambda file: file.write(content))
        self.store.keep(replace(trial, epochs=trained.epochs))

    def load(self, trial: TrialRecord) -> Refitted:
        return load_file(self._path(trial)), self.store[trial.number]


def refit(task: TaskRef, best: TrialRecord, pool: ActorPool, folder: Path) -> Refitted:
    """Train the best trial's smart ensemble for all its epochs, on a worker.

    Args:
        task: what it is trained on, in Ray's object store.
        best: the trial.
        pool: the worker's resources.
        folder: where the result is kept, for a later launch.

    Returns:
        dict, TrialRecord: its weights, and the trial with all its epochs.

    Raises:
        DivergedError: it diverges, in an epoch that the trial was stopped before.
        RunFailedError: workers died over it again and again.
    """
    refits = _Refits(task, pool, folder)
    if not refits.holds(best):
        refits.keep(best, refits.start(best))
    return refits.load(best)


def refit_each(
    task: TaskRef, trials: Sequence[TrialRecord], pool: ActorPool, folder: Path
) -> dict[int, Refitted]:
    """As `refit`, of several trials at once, by number; one that diverges is left out.

    Raises:
        RunFailedError: workers died over one again and again; the others are kept.
    """
    refits = _Refits(task, pool, folder)
    running = {refits.start(trial): trial for trial in trials if not refits.holds(trial)}
    failure: RunFailedError | None = None
    while running:
        started: Any = ray.wait(list(running), num_returns=1)[0][0]
        trial = running.pop(started)
        try:
            refits.keep(trial, started)
        except DivergedError as error:
            print(f"k = {trial.params.k}: {error}")
        except RunFailedError as error:
            failure = failure or error
    if failure:
        raise failure
    return {trial.number: refits.load(trial) for trial in trials if refits.holds(trial)}


def refit_best(task: TaskRef, store: TrialStore, pool: ActorPool, folder: Path) -> Refitted:
    """The best trial that survives all its epochs: ASHA may have stopped it before it diverged.

    Raises:
        NoCompleteTrialError: no trial is complete.
        RunFailedError: workers died over one again and again.
    """
    while True:
        best = best_trial(store.snapshot())
        try:
            return refit(task, best, pool, folder)
        except DivergedError as error:
            store.keep(replace(best, state="FAILED", reason=f"in the refit, {error}"))
            print(f"trial {best.number}: failed in the refit, {error}")
