"""The consensus rules of the paper, and the choice among several rules on the valid split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel.core.ensemble import class_probabilities
from distcel.data.splits import Probabilities, Split
from distcel.rules.rule import ConsensusRule, FittedRule

RANDOM_DRAWS = 20
SL_PENALTIES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)
_TIE_BREAK = 1e-6  # added to the winner's share; too little to change a confidence


def vote_shares(votes_SC: NDArray[np.floating], winners_S: NDArray[np.int64]) -> Tensor:
    """Each class's share of the votes, (S, C); the winner's is slightly above its equals."""
    shares_SC = votes_SC / np.maximum(votes_SC.sum(1, keepdims=True), _TIE_BREAK)
    shares_SC[np.arange(len(shares_SC)), winners_S] += _TIE_BREAK
    return torch.from_numpy(shares_SC / (1 + _TIE_BREAK))


def mean_output(probs_SNC: Probabilities) -> Probabilities:
    """The mean of the outputs of the learners that have one, (S, C)."""
    n_answered_S1 = probs_SNC.any(-1).sum(1, keepdims=True).astype(np.float32)
    mean_SC: Probabilities = probs_SNC.mean(1)
    if (n_answered_S1 < probs_SNC.shape[1]).any():
        mean_SC *= probs_SNC.shape[1] / n_answered_S1.clip(1)
    return mean_SC


@dataclass(frozen=True)
class UnweightedAverage:
    """The mean of the learners' softmax outputs."""

    def fit(self, fitted: Split) -> FittedRule:
        """Fit nothing; the rule has no parameters."""
        del fitted
        return lambda split: torch.from_numpy(mean_output(split.probs_SNC))


@dataclass(frozen=True)
class PluralityVote:
    """The share of the learners that rank a class first; ties go to the higher mean softmax."""

    def fit(self, fitted: Split) -> FittedRule:
        """Fit nothing; the rule has no parameters."""
        del fitted

        def vote(split: Split) -> Tensor:
            n_samples, n_learners, n_classes = split.probs_SNC.shape
            counts_SC = np.zeros((n_samples, n_classes))
            answered_SN = split.probs_SNC.any(-1)
            choices_SN = np.where(answered_SN, split.probs_SNC.argmax(-1), -1)
            for c in range(n_classes):
                counts_SC[:, c] = (choices_SN == c).sum(1)
            # A mean is below 1, so it decides between equal counts only.
            winners_S = (counts_SC + mean_output(split.probs_SNC) / (n_learners + 1)).argmax(1)
            return vote_shares(counts_SC, winners_S)

        return vote


@dataclass(frozen=True)
class RandomSelection:
    """The mean softmax output of k learners drawn once, the same for every sample.

    The seed is that of the run together with the number of the draw: no two runs share a draw.
    """

    k: int
    seed: tuple[int, int]

    def fit(self, fitted: Split) -> FittedRule:
        """Draw the learners."""
        n_learners = fitted.probs_SNC.shape[1]
        chosen = np.random.default_rng(self.seed).choice(n_learners, self.k, replace=False)
        return lambda split: torch.from_numpy(mean_output(split.probs_SNC[:, chosen]))


@dataclass(frozen=True)
class SuperLearner:
    """softmax(sum_i w_i y_i) of the learners' softmax outputs y_i (Ju et al. 2018).

    The weights minimise the mean cross entropy (nats), which is the smart ensemble's objective with
    one vote for all samples, plus penalty / 2 * sum_i (w_i - 1)^2. With a large penalty the rule
    votes as the unweighted average does. Without a penalty the weights are fitted to predictions of
    samples that the learners were trained on, or to predictions of their copies; predictions of new
    samples may have another distribution.

    Attributes:
        penalty: weight of the penalty on the weights' squared distance from one.
        max_iterations: the limit of L-BFGS.
    """

    penalty: float = 0.0
    max_iterations: int = 100

    def fit(self, fitted: Split) -> FittedRule:
        """Minimise the convex loss by L-BFGS until it converges or reaches `max_iterations`."""
        probs_SNC, labels_S = torch.tensor(fitted.probs_SNC), torch.tensor(fitted.labels_S)
        weights_N = torch.ones(probs_SNC.shape[1], requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [weights_N], max_iter=self.max_iterations, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            logits_SC = torch.einsum("snc,n->sc", probs_SNC, weights_N)
            distance = (weights_N - 1).square().sum()
            penalised = cross_entropy(logits_SC, labels_S) + self.penalty / 2 * distance
            penalised.backward()
            return penalised

        optimizer.step(loss)
        found_N = weights_N.detach().numpy()

        def vote(split: Split) -> Tensor:
            logits_SC = torch.from_numpy(np.einsum("snc,n->sc", split.probs_SNC, found_N))
            return class_probabilities(logits_SC)

        return vote


@dataclass(frozen=True)
class BestOnValid:
    """Selects, of rules that are fitted on the same split, the most accurate one on valid.

    Attributes:
        candidates: the rules; of equally accurate ones the earliest is selected.
        valid: the split that the accuracies are measured on.
    """

    candidates: tuple[ConsensusRule, ...]
    valid: Split

    def choose(self, fitted: Split) -> tuple[ConsensusRule, FittedRule]:
        """Fit all candidates; returns the selected one and its fitted rule."""
        votes = [rule.fit(fitted) for rule in self.candidates]
        labels_S = self.valid.labels_S
        hits = [int((vote(self.valid).argmax(-1).numpy() == labels_S).sum()) for vote in votes]
        best = hits.index(max(hits))
        return self.candidates[best], votes[best]

    def fit(self, fitted: Split) -> FittedRule:
        """Fit all candidates and select one."""
        return self.choose(fitted)[1]


def super_learner(valid: Split) -> BestOnValid:
    """The super learner with the penalty that is best on valid."""
    return BestOnValid(tuple(map(SuperLearner, SL_PENALTIES)), valid)


def random_selections(k: int, seed: int) -> list[RandomSelection]:
    """Random selection's 20 draws of k learners."""
    return [RandomSelection(k, (seed, draw)) for draw in range(RANDOM_DRAWS)]


def oracle_accuracy(split: Split) -> float:
    """The fraction of samples that at least one learner classifies correctly.

    It is the upper bound for any selection of one learner a sample.
    """
    return float(split.learners_correct.any(1).mean())
