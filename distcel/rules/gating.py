"""Two other ensembles whose selection net is trained end to end, instead of the smart ensemble.

Both have the smart ensemble's interface, so that `SelectionTraining` trains them and
`predict_split` predicts with them. Selection net, seed, order of the samples, recipe and epochs are
those of the smart ensemble.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from distcel.core.ensemble import SummedVote
from distcel.core.knapsack import top_k_mask
from distcel.data.splits import Split
from distcel.experiment.types import SelectionParams
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import SelectionTraining, TrainingTask, predict_split


class SoftGating(nn.Module):
    """A mixture of all N learners, weighted by the softmax of the scores (Jacobs et al. 1991).

    p = sum_i softmax(scores)_i y_i, where y_i is learner i's softmax output. The scores are not
    divided by their norm, which would keep every weight near 1/N.
    """

    def __init__(self, selection_net: nn.Module) -> None:
        super().__init__()
        self.selection_net = selection_net

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logarithm of p, shape (B, C).

        As p sums to 1, the softmax of this logarithm is p, and the cross entropy is the mixture's
        negative log likelihood.
        """
        weights_BN = self.selection_net(images_BCHW).softmax(-1)
        mixture_BC = torch.bmm(weights_BN[:, None, :], probs_BNC).squeeze(1)
        return mixture_BC.clamp_min(torch.finfo(mixture_BC.dtype).tiny).log()


class StraightThrough(nn.Module):
    """The smart ensemble with the identity as its mask's gradient (Bengio et al. 2013)."""

    def __init__(self, selection_net: nn.Module, k: int) -> None:
        super().__init__()
        self.selection_net, self.k, self.vote = selection_net, k, SummedVote()

    def select(self, images_BCHW: Tensor) -> Tensor:
        """The hard 0/1 mask, shape (B, N), with the gradient of the normalised scores."""
        scores_BN = normalize(self.selection_net(images_BCHW), dim=-1)
        mask_BN = top_k_mask(scores_BN.detach(), self.k)
        return mask_BN + (scores_BN - scores_BN.detach())

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C)."""
        logits_BC: Tensor = self.vote(self.select(images_BCHW), probs_BNC)
        return logits_BC


@dataclass(frozen=True)
class GatedEnsemble:
    """A rule of one of the two kinds; it uses `lr` and `k` of `params`."""

    kind: Literal["soft_gating", "straight_through"]
    params: SelectionParams

    def begin(self, task: TrainingTask, device: torch.device) -> SelectionTraining:
        """A fresh training of this ensemble, as the smart ensemble is trained."""
        ensemble = self._around(task.selection_net(device))
        return task.begin_with(ensemble, self.params.lr, device)

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train for all epochs of the selection net, always from the start: no state is kept.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        yield self.begin(task, device).run()

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities, shape (S, C): the mixture, or the softmax of the vote (Eq. 11)."""
        ensemble = self._around(task.selection_net(torch.device("cpu")))
        ensemble.load_state_dict(trained.state_dict)
        return predict_split(ensemble, split)

    def _around(self, selection_net: nn.Module) -> nn.Module:
        if self.kind == "soft_gating":
            return SoftGating(selection_net)
        assert self.kind == "straight_through", f"no such rule: {self.kind}"
        return StraightThrough(selection_net, self.params.chosen_k)
