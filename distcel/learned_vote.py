"""The smart ensemble with a learned vote: each base learner is heard through its own matrix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from distcel.ensemble import DeviceSplit, SelectionTraining, SmartEnsemble
from distcel.knapsack import KnapsackLayer
from distcel.predictions import CachedSplit
from distcel.selection import SelectionTask
from distcel.trained_network import TrainedNetwork
from distcel.types import SelectionParams

LEARNED_VOTE = "learned vote of n/3"


def third_of(n_learners: int) -> int:
    """The largest k of at most a third of the learners, at least 1."""
    return max(1, n_learners // 3)


class NetWithVotes(nn.Module):
    """A selection net, and beside it the matrix A_i (C, C) and bias a_i (C,) of each of N learners.

    They begin as a logarithmic opinion pool of k learners: A_i = I / k and a_i = 0.
    """

    def __init__(self, selection_net: nn.Module, n_learners: int, n_classes: int, k: int) -> None:
        super().__init__()
        self.selection_net = selection_net
        identity = torch.eye(n_classes) / k
        self.matrices_NCC = nn.Parameter(identity.repeat(n_learners, 1, 1))
        self.biases_NC = nn.Parameter(torch.zeros(n_learners, n_classes))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """The scores, shape (B, N)."""
        scores_BN: Tensor = self.selection_net(images_BCHW)
        return scores_BN


class LearnedVote(SmartEnsemble):
    """Of the k selected learners, sum_i b_i (A_i log y_i + a_i) in place of Eq. 11's sum_i b_i y_i.

    With k = N and a constant mask this is logistic stacking on the logarithms of all outputs; the
    k learners that vote are the only ones asked.
    """

    def __init__(self, net: NetWithVotes, layer: KnapsackLayer) -> None:
        super().__init__(net, layer)
        self.net = net

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C)."""
        mask_BN = self.select(images_BCHW)
        heard_BNC = mask_BN[:, :, None] * probs_BNC.clamp_min(1e-4).log()
        logits_BC: Tensor = torch.addmm(
            mask_BN @ self.net.biases_NC,
            heard_BNC.flatten(1),
            self.net.matrices_NCC.flatten(0, 1),
        )
        return logits_BC


@dataclass(frozen=True)
class LearnedVoteRule:
    """The smart ensemble with a learned vote, trained as the smart ensemble is at these params."""

    params: SelectionParams

    def begin(self, task: SelectionTask, device: torch.device) -> SelectionTraining:
        """Matrices, biases and selection net are trained together, by the same recipe."""
        net = self._net(task).to(device)
        recipe = replace(task.experiment.selector_recipe, lr=self.params.lr)
        selection = SelectionTraining(
            net, task.train, task.valid, self.params, recipe, task.seed, device
        )
        selection.ensemble = LearnedVote(net, selection.ensemble.layer)
        return selection

    def _net(self, task: SelectionTask) -> NetWithVotes:
        _, n_learners, n_classes = task.train.probs_SNC.shape
        net = task.plan.build(n_learners, task.seed)
        return NetWithVotes(net, n_learners, n_classes, self.params.k)

    def train(
        self, task: SelectionTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train for all epochs of the selection net; it keeps no state, so none is taken.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        selection = self.begin(task, device)
        n_epochs = task.experiment.selector_recipe.epochs
        epochs = tuple(selection.run_epoch() for _ in range(n_epochs))
        state_dict = selection.ensemble.selection_net.state_dict()
        weights = {name: value.cpu().numpy() for name, value in state_dict.items()}
        yield TrainedNetwork(weights, epochs[-1].valid_accuracy, epochs)

    def predict(self, trained: TrainedNetwork, task: SelectionTask, split: CachedSplit) -> Tensor:
        """Class probabilities, shape (S, C)."""
        net = self._net(task)
        net.load_state_dict({name: torch.tensor(value) for name, value in trained.weights.items()})
        p = self.params
        ensemble = LearnedVote(net, KnapsackLayer(p.k, p.epsilon, p.m, p.gradient))
        return DeviceSplit(split, torch.device("cpu")).vote(ensemble).softmax(-1)
