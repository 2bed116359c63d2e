"""The knapsack layer with prices: at most k learners, each only where its score is worth its price.

The mask b maximises <c - lambda p, b> subject to sum(b) <= k, where p are the learners' prices and
lambda is the weight of price. k dummy learners of score 0, whose selection means nobody, are
appended to the n net scores c - lambda p. The mask is then the top k of n + k without the dummies,
so that the three gradients of the knapsack layer serve unchanged. Price enters beside the paper's
Eq. 4, which this is at lambda = 0 if k scores are above 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from distcel.core.knapsack import KnapsackLayer
from distcel.experiment.errors import require, require_non_negative
from distcel.experiment.types import Gradient


class PricedKnapsackLayer(nn.Module):
    """Selects at most k of n learners, those of the best score above lambda times their price.

    Args:
        prices: the price of each learner's answer, n numbers in any one unit.
        k: how many learners are selected at most, 1 <= k <= n.
        epsilon: temperature of the smoothing, in the scores' unit.
        m: noise samples a row; `exact` needs none and ignores it.
        gradient: one of those of `KnapsackLayer`.
        generator: source of the draws; None is torch's default generator.

    Raises:
        InvalidInputError: a price is negative or not finite, k is outside 1..n, or
            `KnapsackLayer` refuses another argument.
    """

    prices_N: Tensor

    def __init__(
        self,
        prices: Sequence[float],
        k: int,
        epsilon: float,
        m: int,
        gradient: Gradient = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for price in prices:
            require_non_negative("price", price)
        self.layer = KnapsackLayer(k, epsilon, m, gradient, generator)
        require(k <= len(prices), f"k <= n = {len(prices)} prices", k, "give a k in the range")
        self.register_buffer("prices_N", torch.tensor(prices, dtype=torch.float32))

    def forward(self, scores_BN: Tensor, price_weight: float | Tensor) -> Tensor:
        """The 0/1 mask, shape (B, N), with 0 to k ones a row; nothing is sampled here.

        Args:
            scores_BN: scores, shape (B, N); the smart ensemble's have norm 1 in each row.
            price_weight: lambda, in scores a unit of price: a number, or shape (B,).

        Raises:
            InvalidInputError: the number of scores a row is not that of the prices.
        """
        n, n_prices = scores_BN.shape[-1], len(self.prices_N)
        require(n == n_prices, f"n = {n_prices} scores a row, one a price", n, "give as many")
        weight = torch.as_tensor(price_weight, dtype=scores_BN.dtype, device=scores_BN.device)
        net_BN = scores_BN - weight[..., None] * self.prices_N.to(scores_BN.dtype)
        dummies_BK = net_BN.new_zeros(len(net_BN), self.layer.k)
        mask_BN: Tensor = self.layer(torch.cat([net_BN, dummies_BK], dim=-1))[:, :n]
        return mask_BN

    def spent(self, mask_BN: Tensor) -> Tensor:
        """The price of the selected learners, shape (B,); differentiable, for use in a loss."""
        return mask_BN @ self.prices_N.to(mask_BN.dtype)
