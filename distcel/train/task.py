"""What networks are trained on: base learners, the trials of a search, and trained rules alike."""

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
    """What many trainings have in common, put into Ray's object store once.

    Attributes:
        experiment: the recipes, and the base learners' specialty share.
        plan: how networks are built.
        splits: `train`, and what else the trainings use. Base learners predict other splits, test
            among them; trials and trained rules have train and valid alone, as the base learners
            predict them.
        seed: of every random number, a base learner's together with its name.
    """

    experiment: Experiment
    plan: NetworkPlan
    splits: Splits
    seed: int

    @property
    def train(self) -> Split:
        """What is trained on."""
        return self.splits["train"]

    @property
    def valid(self) -> Split:
        """What is measured after every epoch of a selection net."""
        return self.splits["valid"]

    def selection_net(self, device: torch.device) -> nn.Module:
        """An untrained one; the same seed gives the same."""
        n_learners, recipe = self.train.probs_SNC.shape[1], self.experiment.selector_recipe
        return self.plan.build(n_learners, self.seed, recipe.in_bfloat16).to(device)

    def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
        """A fresh smart ensemble and its training; the same seed gives the same start."""
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
