"""The smart ensemble (Eqs. 8-13): a selection net, the knapsack layer and a vote."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from distcel.core.knapsack import KnapsackLayer
from distcel.core.networks import NetworkPlan
from distcel.experiment.types import SelectionParams

# The least argument of a logarithm: a learner that excludes a class does not outvote all others.
_LOWEST_PROBABILITY = 1e-4
UNANSWERED = -10.0  # the score of a learner without an output; all others are within -1..1
# Settings of AnyKEnsemble, found on the digits and CIFAR-10 (docs/log.md): the number of parts of a
# batch, and the factor of the logits at k = 1; with 3 the logits at k = 9 are the paper's.
_PARTS, _TEMPERED = 4, 3.0


class SummedVote(nn.Module):
    """sum_i b_i y_i, where y_i is learner i's softmax output (Eqs. 11-12)."""

    def forward(self, mask_BN: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C)."""
        return torch.bmm(mask_BN[:, None, :], probs_BNC).squeeze(1)

    def of_learner(self, index: int, probs_BC: Tensor) -> Tensor:
        """What a selected learner adds to the logits, shape (B, C)."""
        return probs_BC


class LearnedVote(nn.Module):
    """sum_i b_i (log(y_i) A_i + a_i), with a matrix A_i (C, C) and a bias a_i (C,) a learner.

    y_i is learner i's softmax output as a row, at least 1e-4. The rows of A_i are the learner's
    classes, the columns the classes that it votes for. The paper does not have this vote. Matrices
    and biases are trained together with the selection net. Initially they are a logarithmic opinion
    pool of k learners: A_i = I / k, a_i = 0. With k = N and a constant mask the vote is logistic
    stacking on the logarithms of all outputs; with k < N only the k selected learners are used.
    """

    def __init__(self, n_learners: int, n_classes: int, k: int) -> None:
        super().__init__()
        identity = torch.eye(n_classes) / k
        self.matrices_NCC = nn.Parameter(identity.repeat(n_learners, 1, 1))
        self.biases_NC = nn.Parameter(torch.zeros(n_learners, n_classes))

    def forward(self, mask_BN: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C)."""
        masked_BNC = mask_BN[:, :, None] * _logarithm(probs_BNC)
        biases_BC = mask_BN @ self.biases_NC
        logits_BC: Tensor = torch.addmm(
            biases_BC, masked_BNC.flatten(1), self.matrices_NCC.flatten(0, 1)
        )
        return logits_BC

    def of_learner(self, index: int, probs_BC: Tensor) -> Tensor:
        """What a selected learner adds to the logits, shape (B, C)."""
        voted_BC: Tensor = _logarithm(probs_BC) @ self.matrices_NCC[index]
        return voted_BC + self.biases_NC[index]


def _logarithm(probs: Tensor) -> Tensor:
    return probs.clamp_min(_LOWEST_PROBABILITY).log()


def build_vote(
    params: SelectionParams, n_learners: int, n_classes: int
) -> SummedVote | LearnedVote:
    """The untrained vote that the parameters name."""
    if params.vote == "sum":
        return SummedVote()
    return LearnedVote(n_learners, n_classes, params.chosen_k)


class SmartEnsemble(nn.Module):
    """Selects k of N base learners for each image and lets them vote.

    The selection net scores the learners (Eq. 8), the scores are divided by their L2 norm (Eq. 9),
    the knapsack layer turns them into a mask b (Eq. 10), and the prediction is the softmax of
    the vote: in the paper sum_i b_i y_i (Eqs. 11-12), y_i being learner i's own softmax output.
    """

    def __init__(
        self, selection_net: nn.Module, layer: KnapsackLayer, vote: SummedVote | LearnedVote
    ) -> None:
        super().__init__()
        self.selection_net, self.layer, self.vote = selection_net, layer, vote

    def scores(self, images_BCHW: Tensor, probs_BNC: Tensor | None = None) -> Tensor:
        """The scores of norm 1 (Eq. 9), shape (B, N).

        Where a learner has no output, all of whose entries are 0 then, its score is so low that it
        is not selected.
        """
        scores_BN = normalize(self.selection_net(images_BCHW), dim=-1)
        if probs_BNC is None:
            return scores_BN
        return scores_BN.masked_fill(~answered(probs_BNC), UNANSWERED)

    def select(self, images_BCHW: Tensor, probs_BNC: Tensor | None = None) -> Tensor:
        """The 0/1 mask of the learners selected for each image, shape (B, N).

        Of learners whose outputs are given, only those with an output are selected.
        """
        mask_BN: Tensor = self.layer(self.scores(images_BCHW, probs_BNC))
        return mask_BN

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C).

        The softmax that follows (Eq. 11) is the one inside the cross entropy; applying it here as
        well would put a floor under the loss.
        """
        return self.combine(self.select(images_BCHW, probs_BNC), probs_BNC)

    def combine(self, mask_BN: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote of any learners, shape (B, C)."""
        logits_BC: Tensor = self.vote(mask_BN, probs_BNC)
        return logits_BC


class AnyKEnsemble(SmartEnsemble):
    """A smart ensemble that is trained for every k at once; its vote is the sum.

    In training each quarter of a batch has a k of its own, drawn log-uniformly from a quarter of
    1..n, so that every batch has small and large ks. The softmax of Eq. 11 becomes sharper as k
    grows, as it is of a sum of k outputs. The logits are divided by sqrt(k), so that a large k does
    not learn from its few errors alone. In evaluation `layer.k` learners vote, as in any smart
    ensemble.

    Args:
        selection_net: scores the n learners.
        layer: selects learners by their scores.
        n_learners: n.
        seed: seeds the draws of k.
    """

    def __init__(
        self, selection_net: nn.Module, layer: KnapsackLayer, n_learners: int, seed: int
    ) -> None:
        super().__init__(selection_net, layer, SummedVote())
        self.n_learners = n_learners
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images_BCHW: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C); in training at the drawn ks, divided by sqrt(k)."""
        if not self.training:
            return super().forward(images_BCHW, probs_BNC)
        scores_BN = self.scores(images_BCHW, probs_BNC)
        parts = zip(scores_BN.chunk(_PARTS), probs_BNC.chunk(_PARTS), self.draw_ks(), strict=False)
        return torch.cat([self._tempered(scores, probs, k) for scores, probs, k in parts])

    def draw_ks(self) -> list[int]:
        """Draw a k for each part of a batch, each from its own part of 1..n on a log scale."""
        uniform = (torch.arange(_PARTS) + torch.rand(_PARTS, generator=self.generator)) / _PARTS
        ks = (self.n_learners + 1) ** uniform.double()
        return [min(self.n_learners, int(k)) for k in ks.tolist()]

    def _tempered(self, scores_BN: Tensor, probs_BNC: Tensor, k: int) -> Tensor:
        logits_BC: Tensor = self.vote(self.layer.mask(scores_BN, k), probs_BNC)
        return logits_BC * (_TEMPERED / math.sqrt(k))


def answered(probs_BNC: Tensor) -> Tensor:
    """Whether a learner has an output, (B, N): without one all its probabilities are 0."""
    return probs_BNC.sum(-1) > 0


def sums_over_k(scores_BN: Tensor, probs_BNC: Tensor) -> Tensor:
    """The logits of the summed vote at every k, shape (B, N, C): entry k - 1 is that of k learners.

    One sort of the scores gives the masks of all k, so that all k cost as much as one.
    """
    order_BN = scores_BN.argsort(-1, descending=True)
    return probs_BNC.gather(1, order_BN[:, :, None].expand_as(probs_BNC)).cumsum(1)


def smart_ensemble(
    selection_net: nn.Module,
    params: SelectionParams,
    n_learners: int,
    n_classes: int,
    generator: torch.Generator | None = None,
    seed: int = 0,
) -> SmartEnsemble:
    """The smart ensemble with these parameters and a selection net with N outputs.

    Args:
        selection_net: scores the learners.
        params: the parameters of the layer and the vote.
        n_learners: N.
        n_classes: C.
        generator: the source of the layer's noise, on the device where it is trained.
        seed: seeds the draws of k, if k is `any`.

    Raises:
        InvalidInputError: k is above N.
    """
    params.require_k_within(n_learners)
    if params.k == "any":
        layer = KnapsackLayer(n_learners, params.epsilon, params.m, params.gradient, generator)
        return AnyKEnsemble(selection_net, layer, n_learners, seed)
    layer = KnapsackLayer(params.k, params.epsilon, params.m, params.gradient, generator)
    return SmartEnsemble(selection_net, layer, build_vote(params, n_learners, n_classes))


def trained_ensemble(
    plan: NetworkPlan,
    n_learners: int,
    n_classes: int,
    params: SelectionParams,
    weights: Mapping[str, Tensor],
) -> SmartEnsemble:
    """The smart ensemble with these weights, on the CPU."""
    net = plan.build(n_learners, seed=0)
    ensemble = smart_ensemble(net, params, n_learners, n_classes)
    ensemble.load_state_dict(weights)
    return ensemble


def class_probabilities(logits_SC: Tensor) -> Tensor:
    """The softmax of the logits (Eq. 11), in double precision to keep close logits distinct."""
    return logits_SC.double().softmax(-1)
