"""The smart ensemble whose learners have prices: whom to ask, and how to combine what they say.

One selection net serves every weight of price lambda. A learner's score is the sum of one for all
lambda and one that is interpolated between `N_KNOTS` values of lambda, evenly spaced on a
logarithmic scale; these begin at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from distcel.core.ensemble import UNANSWERED, answered
from distcel.core.networks import NetworkPlan
from distcel.core.priced_layer import PricedKnapsackLayer
from distcel.experiment.prices import Prices, PriceWeight
from distcel.experiment.types import SelectionParams

N_KNOTS = 4
# The least argument of a logarithm, and the scale of the logarithms beside probabilities.
_LOWEST_PROBABILITY, _LOG_SCALE = 1e-3, 1 / 3


class SubsetVote(nn.Module):
    """Logistic stacking of any subset of the learners.

    The logits are s_|b| (a_0 + sum_i b_i (f(y_i) A_i + a_i)), where f(y) = (e(y), y, log y / 3)
    are `answer_features` of learner i's output, A_i is a matrix (3C, C), and s is a scale for each
    count of selected learners. With b = 1 it is stacking of all learners.
    """

    def __init__(self, n_learners: int, n_classes: int) -> None:
        super().__init__()
        self.matrices_NFC = nn.Parameter(torch.zeros(n_learners, 3 * n_classes, n_classes))
        self.biases_NC = nn.Parameter(torch.zeros(n_learners, n_classes))
        self.prior_C = nn.Parameter(torch.zeros(n_classes))
        self.log_scales = nn.Parameter(torch.zeros(n_learners + 1))  # by count of selected learners

    def forward(self, mask_BN: Tensor, features_BNF: Tensor) -> Tensor:
        """The logits of the vote, shape (B, C), from the mask and `answer_features`."""
        masked_BNF = mask_BN[:, :, None] * features_BNF
        biases_BC = self.prior_C + mask_BN @ self.biases_NC
        logits_BC: Tensor = torch.addmm(
            biases_BC, masked_BNF.flatten(1), self.matrices_NFC.flatten(0, 1)
        )
        counts_B = mask_BN.detach().sum(-1).round().long()
        return logits_BC * self.log_scales.exp()[counts_B][:, None]


def answer_features(probs_BNC: Tensor) -> Tensor:
    """What the vote and the selection net see of an answer y: (e(y), y, log y / 3), (B, N, 3C).

    e(y) is the one-hot vector of the most probable class, and the logarithm's argument is at least
    1e-3. Of an answer that is missing, all of whose probabilities are 0, all features are 0.
    """
    labels_BNC = one_hot(probs_BNC.argmax(-1), probs_BNC.shape[-1]).to(probs_BNC.dtype)
    logs_BNC = probs_BNC.clamp_min(_LOWEST_PROBABILITY).log() * _LOG_SCALE
    features_BNF = torch.cat([labels_BNC, probs_BNC, logs_BNC], dim=-1)
    return features_BNF * answered(probs_BNC)[..., None]


class PricedEnsemble(nn.Module):
    """Asks for each sample the learners that are worth their price, and lets them vote.

    The learners that are always asked are the first ones. The others' scores c(x, lambda), between
    -1 and 1 as what an answer adds to the accuracy is, enter the knapsack layer with prices: at
    most k of those with c_i > lambda p_i are selected. Norm 1, as without prices, would leave a
    single learner's score no gradient.

    Args:
        selection_net: maps what it sees of B samples to (1 + N_KNOTS) * (N - n_always) numbers.
        layer: selects of the learners that are not always asked.
        vote: combines the answers.
        prices: the prices of all N learners.

    Attributes:
        price_weight: lambda in evaluation, 0 until it is chosen.
    """

    prices_N: Tensor

    def __init__(
        self,
        selection_net: nn.Module,
        layer: PricedKnapsackLayer,
        vote: SubsetVote,
        prices: Prices,
    ) -> None:
        super().__init__()
        self.selection_net, self.layer, self.vote, self.prices = selection_net, layer, vote, prices
        self.register_buffer("prices_N", torch.tensor(prices.of_learners), persistent=False)
        self.knot_scale = nn.Parameter(torch.zeros(()))
        self.price_weight = PriceWeight(0.0, 0.0, 0.0)

    def scores(self, inputs_B: Tensor) -> Tensor:
        """The scores at each knot of lambda, shape (B, N_KNOTS, N - n_always)."""
        n_scored = len(self.prices_N) - self.prices.n_always
        found_BKN: Tensor = self.selection_net(inputs_B).unflatten(1, (1 + N_KNOTS, n_scored))
        return found_BKN[:, :1] + self.knot_scale * found_BKN[:, 1:]

    def mask(self, scores_BKN: Tensor, answered_BN: Tensor, weight_B: Tensor) -> Tensor:
        """The 0/1 mask of the learners that are asked, shape (B, N).

        Args:
            scores_BKN: what `scores` returned.
            answered_BN: which learners can answer.
            weight_B: lambda of each sample, shape (B,).
        """
        n_always = self.prices.n_always
        low, high = (math.log(end) for end in self.prices.weight_range)
        places_B = (weight_B.clamp_min(1e-30).log() - low) / max(high - low, 1e-12)
        places_B = places_B.clamp(0, 1) * (N_KNOTS - 1)
        knots_K = torch.arange(N_KNOTS, device=weight_B.device)
        shares_BK = (1 - (places_B[:, None] - knots_K).abs()).clamp_min(0)
        scores_BN = torch.einsum("bk,bkn->bn", shares_BK, scores_BKN).tanh()
        can_BN = answered_BN[:, n_always:]
        mask_BN = self.layer(scores_BN.masked_fill(~can_BN, UNANSWERED), weight_B)
        always_BN = answered_BN[:, :n_always].to(mask_BN.dtype)
        return torch.cat([always_BN, mask_BN], dim=-1)

    def select(self, inputs_B: Tensor, probs_BNC: Tensor) -> Tensor:
        """The mask of the learners that are asked at `price_weight`, shape (B, N)."""
        weight = self.price_weight
        weight_B = torch.full((len(inputs_B),), weight.high, device=inputs_B.device)
        weight_B[uniform_hash(inputs_B) < weight.share_of_low] = weight.low
        return self.mask(self.scores(inputs_B), answered(probs_BNC), weight_B)

    def forward(self, inputs_B: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote at `price_weight`, shape (B, C)."""
        return self.combine(self.select(inputs_B, probs_BNC), probs_BNC)

    def combine(self, mask_BN: Tensor, probs_BNC: Tensor) -> Tensor:
        """The logits of the vote of any learners, shape (B, C)."""
        logits_BC: Tensor = self.vote(mask_BN, answer_features(probs_BNC))
        return logits_BC

    def loss(
        self, inputs_B: Tensor, probs_BNC: Tensor, labels_B: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The mean over the batch of 1 - p_y + lambda <p, b>, and the vote's own loss.

        lambda is drawn for each sample, log-uniformly from its range. The vote's own loss is the
        cross entropy on a random subset: the selection may rely on a vote that is good for each.
        """
        low, high = (math.log(end) for end in self.prices.weight_range)
        uniform_B = torch.rand(len(labels_B), generator=generator).to(probs_BNC.device)
        weight_B = (low + (high - low) * uniform_B).exp()
        can_BN, features_BNF = answered(probs_BNC), answer_features(probs_BNC)
        mask_BN = self.mask(self.scores(inputs_B), can_BN, weight_B)
        own_B = cross_entropy(self.vote(mask_BN, features_BNF), labels_B, reduction="none")
        errors_B = 1 - (-own_B).exp()
        spent_B = mask_BN @ self.prices_N
        random_BN = random_subsets(can_BN, self.prices.n_always, generator)
        vote_loss = subset_loss(self.vote, random_BN, features_BNF, labels_B)
        return (errors_B + weight_B * spent_B).mean() + vote_loss


def uniform_hash(inputs_B: Tensor) -> Tensor:
    """A number in [0, 1) of what the net sees of each sample, shape (B,); the same for equals."""
    flat_BF = inputs_B.flatten(1).double()
    generator = torch.Generator().manual_seed(0)
    factors_F = torch.rand(flat_BF.shape[1], generator=generator, dtype=torch.float64)
    return (1e4 * (flat_BF @ factors_F.to(flat_BF.device))).frac().abs()


def random_subsets(can_BN: Tensor, n_always: int, generator: torch.Generator) -> Tensor:
    """Random subsets of the learners that can answer, of every size, shape (B, N), as floats."""
    batch, n = can_BN.shape
    share_B1 = torch.rand(batch, 1, generator=generator)
    taken_BN = torch.rand(batch, n, generator=generator) < share_B1
    taken_BN[:, :n_always] = True
    return (taken_BN.to(can_BN.device) & can_BN).float()


def subset_loss(
    vote: SubsetVote, mask_BN: Tensor, features_BNF: Tensor, labels_B: Tensor
) -> Tensor:
    """The cross entropy of the vote of these subsets, with a penalty on its matrices."""
    penalty = 5e-4 * vote.matrices_NFC.square().sum()
    return cross_entropy(vote(mask_BN, features_BNF), labels_B) + penalty


def priced_ensemble(
    selection_net: nn.Module,
    params: SelectionParams,
    prices: Prices,
    n_classes: int,
    generator: torch.Generator | None = None,
) -> PricedEnsemble:
    """The priced ensemble with these parameters, of which k bounds the count of selected learners.

    Args:
        selection_net: has 1 + N_KNOTS outputs for each learner that is not always asked.
        params: the parameters of the layer.
        prices: the learners' prices.
        n_classes: C.
        generator: the source of the layer's noise, on the device where it is trained.

    Raises:
        InvalidInputError: k is above the number of learners that are not always asked.
    """
    scored = prices.of_learners[prices.n_always :]
    layer = PricedKnapsackLayer(
        scored, params.chosen_k, params.epsilon, params.m, params.gradient, generator
    )
    vote = SubsetVote(len(prices.of_learners), n_classes)
    return PricedEnsemble(selection_net, layer, vote, prices)


def n_outputs(prices: Prices) -> int:
    """The number of outputs of a priced ensemble's selection net."""
    return (1 + N_KNOTS) * (len(prices.of_learners) - prices.n_always)


def trained_priced_ensemble(
    plan: NetworkPlan,
    params: SelectionParams,
    prices: Prices,
    n_classes: int,
    weights: Mapping[str, Tensor],
) -> PricedEnsemble:
    """The priced ensemble with these weights, on the CPU."""
    net = plan.build(n_outputs(prices), seed=0)
    ensemble = priced_ensemble(net, params, prices, n_classes)
    ensemble.load_state_dict(weights)
    return ensemble
