"""The rules that the smart ensemble is compared with: all vote on the same cached predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel.predictions import CachedSplit

Vote = Callable[[CachedSplit], Tensor]


class ConsensusRule(Protocol):
    """Combines the base learners' predictions into one."""

    def fit(self, train: CachedSplit) -> Vote:
        """Learn from the train split; the result maps a split to class scores (S, C)."""
        ...


@dataclass(frozen=True)
class UnweightedAverage:
    """The mean of the learners' softmax outputs."""

    def fit(self, train: CachedSplit) -> Vote:
        """Nothing is learnt."""
        del train
        return lambda split: torch.from_numpy(split.probs_SNC.mean(1))


@dataclass(frozen=True)
class PluralityVote:
    """The class that most learners rank first; a tie goes to the higher mean softmax output."""

    def fit(self, train: CachedSplit) -> Vote:
        """Nothing is learnt."""
        del train

        def vote(split: CachedSplit) -> Tensor:
            n_samples, n_learners, n_classes = split.probs_SNC.shape
            counts_SC = np.zeros((n_samples, n_classes))
            choices_SN = split.probs_SNC.argmax(-1)
            for c in range(n_classes):
                counts_SC[:, c] = (choices_SN == c).sum(1)
            # A mean is below 1, so it decides between equal counts only.
            return torch.from_numpy(counts_SC + split.probs_SNC.mean(1) / (n_learners + 1))

        return vote


@dataclass(frozen=True)
class RandomSelection:
    """The mean softmax output of k learners drawn once, the same for every sample."""

    k: int
    seed: int

    def fit(self, train: CachedSplit) -> Vote:
        """Draw the learners."""
        n_learners = train.probs_SNC.shape[1]
        chosen = np.random.default_rng(self.seed).choice(n_learners, self.k, replace=False)
        return lambda split: torch.from_numpy(split.probs_SNC[:, chosen].mean(1))


@dataclass(frozen=True)
class SuperLearner:
    """A weighted sum of the learners' softmax outputs, one weight a learner (Ju et al. 2018).

    The weights minimise the cross entropy of softmax(sum_i w_i y_i) on the train split: the smart
    ensemble's own objective, with the same vote for every sample. It is convex; L-BFGS solves it.
    Weights on the simplex by likelihood or non-negative least squares, and weights fitted on the
    valid split, were worse on digits and CIFAR-10.
    """

    max_iterations: int = 100

    def fit(self, train: CachedSplit) -> Vote:
        """Find the weights."""
        probs_SNC, labels_S = torch.tensor(train.probs_SNC), torch.tensor(train.labels_S)
        weights_N = torch.ones(probs_SNC.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights_N], max_iter=self.max_iterations, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits_SC = torch.einsum("snc,n->sc", probs_SNC, weights_N)
            cross = cross_entropy(logits_SC, labels_S)
            cross.backward()
            return cross

        optimizer.step(loss)
        found_N = weights_N.detach().numpy()
        return lambda split: torch.from_numpy(np.einsum("snc,n->sc", split.probs_SNC, found_N))


def oracle_accuracy(split: CachedSplit) -> float:
    """The fraction of samples that at least one learner gets right: no selection can do better."""
    right_SN = split.probs_SNC.argmax(-1) == split.labels_S[:, None]
    return float(right_SN.any(1).mean())
