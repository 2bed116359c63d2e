"""What a worker does for the search: one trial of Tune, and the refit of the best one."""

from __future__ import annotations

import os
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
from torch import Tensor

from distcel.actor_pool import ActorPool
from distcel.ensemble import SelectionTraining
from distcel.fleet import raise_cause, worker_device
from distcel.networks import NetworkPlan
from distcel.predictions import CachedSplit
from distcel.storage import is_intact, safetensors_bytes, write_checked
from distcel.training import DivergedError
from distcel.trials import TrialStore
from distcel.types import EpochResult, Experiment, RunFailedError, SelectionParams, TrialRecord

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
def _refit(
    task: SelectionTask, params: SelectionParams
) -> tuple[dict[str, Any], tuple[EpochResult, ...]]:
    torch.set_num_threads(1)
    selection = task.begin(params, worker_device())
    results = tuple(selection.run_epoch() for _ in range(task.experiment.selector_recipe.epochs))
    weights = selection.ensemble.selection_net.state_dict()
    return {name: value.cpu().numpy() for name, value in weights.items()}, results


def refit(
    task: TaskRef, best: TrialRecord, pool: ActorPool, folder: Path
) -> tuple[dict[str, Tensor], TrialRecord]:
    """Train the best trial's selection net for all its epochs, on a worker.

    Args:
        task: what it is trained on, in Ray's object store.
        best: the trial.
        pool: the worker's resources.
        folder: where the result is kept, for a later launch.

    Returns:
        dict, TrialRecord: the selection net's weights, and the trial with all its epochs.

    Raises:
        DivergedError: it diverges, in an epoch that the trial was stopped before.
        RunFailedError: workers died over it again and again.
    """
    store, path = TrialStore(folder), folder / f"{best.number:05d}.safetensors"
    done = best.number in store and store[best.number].params == best.params
    if not (done and is_intact(path)):
        options = _refit.options(num_cpus=pool.num_cpus, num_gpus=pool.num_gpus, name="refit")
        try:
            weights, epochs = ray.get(options.remote(task, best.params))
        except ray.exceptions.RayTaskError as error:
            raise_cause(error)
        except ray.exceptions.RayError as error:
            reason = str(error).partition("\n")[0]
            raise RunFailedError(f"the refit of trial {best.number} failed: {reason}") from None
        write_checked(path, lambda file: file.write(safetensors_bytes(weights)))
        store.keep(replace(best, epochs=epochs))
    return load_file(path), store[best.number]
