"""The task of every training: base learners, the trials of a search, and trained rules."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from distcel.core.ensemble import smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.data.splits import Split, Splits
from distcel.experiment.types import Experiment, SelectionParams
from distcel.train.selection import SelectionTraining


@dataclass(frozen=True)
class TrainingTask:
    """The data and settings that many trainings share, put into Ray's object store once.

    Attributes:
        experiment: the recipes, and the base learners' specialty share.
        plan: builds the networks.
        splits: `train` and the other splits of the trainings. Base learners predict all of them,
            test included. Trials and trained rules have train and valid alone, with the base
            learners' predictions.
        seed: seeds every random number, for a base learner together with its name.
    """

    experiment: Experiment
    plan: NetworkPlan
    splits: Splits
    seed: int

    @property
    def train(self) -> Split:
        """The split to train on."""
        return self.splits["train"]

    @property
    def valid(self) -> Split:
        """The split that is measured after every epoch of a selection net."""
        return self.splits["valid"]

    def selection_net(self, device: torch.device) -> nn.Module:
        """An untrained selection net; the same seed gives the same weights."""
        n_learners, recipe = self.train.probs_SNC.shape[1], self.experiment.selector_recipe
        return self.plan.build(n_learners, self.seed, recipe.in_bfloat16).to(device)

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """The training of a new smart ensemble; the same seed gives the same initial weights."""
        _, n_learners, n_classes = self.train.probs_SNC.shape
        generator = torch.Generator(device).manual_seed(self.seed)
        net = self.selection_net(device)
        ensemble = smart_ensemble(net, params, n_learners, n_classes, generator, self.seed)
        ensemble.to(device)
        return self.begin_with(ensemble, params.lr, device)

    def begin_with(self, ensemble: nn.Module, lr: float, device: torch.device) -> SelectionTraining:
        """The training of any ensemble, by the selection net's recipe."""
        recipe = replace(self.experiment.selector_recipe, lr=lr)
        return SelectionTraining(ensemble, self.train, self.valid, recipe, self.seed, device)
