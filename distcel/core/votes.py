"""How the selected base learners are heard: the paper's sum, or a sum that is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcel.experiment.types import SelectionParams

# Of a logarithm's argument: a learner that rules a class out does not silence all the others.
_LOWEST_PROBABILITY = 1e-4


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

    y_i is learner i's softmax output as a row, at least 1e-4, so that A_i is (class it says, class
    it is heard to say). The paper does not have it. Matrices and biases are trained together with
    the selection net. They begin as a logarithmic opinion pool of k learners: A_i = I / k, a_i = 0.
    With k = N and a constant mask it is logistic stacking on the logarithms of all outputs; the k
    learners that vote are the only ones asked.
    """

    def __init__(self, n_learners: int, n_classes: int, k: int) -> None:
        super().__init__()
        identity = torch.eye(n_classes) / k
        self.matrices_NCC = nn.Parameter(identity.repeat(n_learners, 1, 1))
        self.biases_NC = nn.Parameter(torch.zeros(n_learners, n_classes))

    def forward(self, mask_BN: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C)."""
        heard_BNC = mask_BN[:, :, None] * _logarithm(probs_BNC)
        biases_BC = mask_BN @ self.biases_NC
        logits_BC: Tensor = torch.addmm(
            biases_BC, heard_BNC.flatten(1), self.matrices_NCC.flatten(0, 1)
        )
        return logits_BC

    def of_learner(self, index: int, probs_BC: Tensor) -> Tensor:
        """What a selected learner adds to the logits, shape (B, C)."""
        heard_BC: Tensor = _logarithm(probs_BC) @ self.matrices_NCC[index]
        return heard_BC + self.biases_NC[index]


def _logarithm(probs: Tensor) -> Tensor:
    return probs.clamp_min(_LOWEST_PROBABILITY).log()


def build_vote(
    params: SelectionParams, n_learners: int, n_classes: int
) -> SummedVote | LearnedVote:
    """The vote that the parameters ask for, untrained."""
    if params.vote == "sum":
        return SummedVote()
    return LearnedVote(n_learners, n_classes, params.k)
