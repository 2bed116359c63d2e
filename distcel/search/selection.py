"""What a worker does for the search: it trains a smart ensemble as one trial of Tune."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # with it, Ctrl-C ends fit() as if done

import ray
import torch
from ray import tune
from torch import nn

from distcel.core.ensemble import SelectionTraining, smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.execute.workers import worker_device
from distcel.experiment.types import Experiment, SelectionParams
from distcel.train.cache import CachedSplit
from distcel.train.loop import DivergedError

METRIC = "valid_accuracy"

# Part of the key of a search and of what is refitted. Raise it with every change that gives a trial
# other numbers from the same predictions, recipe, point, seed and torch: of the knapsack layer, the
# votes, the smart ensemble, the training loop, the folds' predictions, or of the scheduler that
# stops trials. tests/train/test_golden.py fails where it was forgotten.
CACHE_VERSION = 1


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
