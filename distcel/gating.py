"""Two other ways to train a selection net end to end, in the smart ensemble's place.

Both are called as the smart ensemble is, so that `SelectionTraining` trains them and
`DeviceSplit.vote` lets them vote: with the same selection net, seed, order of the samples, recipe
and epochs they differ from it in one thing each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from distcel.ensemble import DeviceSplit, SelectionTraining, SmartEnsemble, trained_ensemble
from distcel.knapsack import top_k_mask
from distcel.predictions import CachedSplit
from distcel.selection import SelectionTask
from distcel.trained_network import TrainedNetwork
from distcel.types import SelectionParams


class SoftGating(SmartEnsemble):
    """A mixture of all N learners, weighted by the softmax of the scores (Jacobs et al. 1991).

    p = sum_i softmax(scores)_i y_i, where y_i is learner i's softmax output. The scores are not
    divided by their norm: that would hold every weight near 1/N. The layer is not used.
    """

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logarithm of p, shape (B, C).

        As p sums to 1, its softmax is p and its cross entropy the negative log of p's entry for
        the label: the mixture's own likelihood.
        """
        weights_BN = self.selection_net(images_BCHW).softmax(-1)
        mixture_BC = torch.bmm(weights_BN[:, None, :], probs_BNC).squeeze(1)
        return mixture_BC.clamp_min(torch.finfo(mixture_BC.dtype).tiny).log()


class StraightThrough(SmartEnsemble):
    """The smart ensemble, its mask's gradient replaced by the identity (Bengio et al. 2013)."""

    def select(self, images_BCHW: Tensor) -> Tensor:
        """The hard 0/1 mask, shape (B, N); backward it is the normalised scores."""
        scores_BN = normalize(self.selection_net(images_BCHW), dim=-1)
        mask_BN = top_k_mask(scores_BN.detach(), self.layer.k)
        return mask_BN + (scores_BN - scores_BN.detach())


_KINDS = {"soft gating": SoftGating, "straight-through": StraightThrough}


@dataclass(frozen=True)
class GatedEnsemble:
    """A rule of one of the two kinds; of `params`, lr and k matter."""

    kind: Literal["soft gating", "straight-through"]
    params: SelectionParams

    def begin(self, task: SelectionTask, device: torch.device) -> SelectionTraining:
        """The smart ensemble's training, with this ensemble around the selection net."""
        selection = task.begin(self.params, device)
        selection.ensemble = self._around(selection.ensemble)
        return selection

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
        """Class probabilities, shape (S, C): the mixture, or the softmax of the vote (Eq. 11)."""
        weights = {name: torch.tensor(value) for name, value in trained.weights.items()}
        smart = trained_ensemble(task.plan, split.probs_SNC.shape[1], self.params, weights)
        return DeviceSplit(split, torch.device("cpu")).vote(self._around(smart)).softmax(-1)

    def _around(self, smart: SmartEnsemble) -> SmartEnsemble:
        return _KINDS[self.kind](smart.selection_net, smart.layer)
