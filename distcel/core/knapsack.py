"""The knapsack layer (Eqs. 4-7): hard top-k forward, a smoothed gradient backward.

Forward it is K(c), the 0/1 mask b with sum(b) = k that maximises <c, b>. Backward it uses the
Jacobian J(c) of P(c) = E[K(c + epsilon z)], z standard normal (Eq. 5), computed in one of three
ways. J is symmetric, its rows sum to 0 and <g, J g> >= 0, so J g is the gradient for upstream g.

The layer needs nothing but torch. Shapes: B rows, N learners, M noise samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from distcel.core.quadrature import exact_product
from distcel.experiment.errors import require, require_choice, require_count, require_positive
from distcel.experiment.types import Gradient

_BLOCK_ELEMENTS = 1 << 20  # noise at once, a few megabytes, which the allocator reuses


def top_k_mask(scores_BN: Tensor, k: int) -> Tensor:
    """K(c): the 0/1 mask of each row's k largest scores (Eq. 4); ties still give exactly k ones.

    Args:
        scores_BN: scores, shape (B, N).
        k: how many are selected, 1 <= k <= N.

    Returns:
        Tensor: shape (B, N), of the scores' dtype.

    Raises:
        InvalidInputError: k outside 1..N.
    """
    n = scores_BN.shape[-1]
    require(1 <= k <= n, f"1 <= k <= n = {n}", k, "give a k in the range")
    chosen_BK = scores_BN.topk(k, dim=-1, sorted=False).indices
    return torch.zeros_like(scores_BN).scatter_(-1, chosen_BK, 1.0)


class KnapsackLayer(nn.Module):
    """Selects k of N learners from their scores; the gradient is smoothed, the mask is hard.

    Args:
        k: how many learners are selected.
        epsilon: temperature of the smoothing, in the scores' unit.
        m: noise samples a row; `exact` needs none and ignores it.
        gradient: `exact` (quadrature, no draws), `conditional` (Rao-Blackwellised draws) or
            `paper` (Eq. 7 with 1/epsilon and a baseline, as `paper_product` has it).
        generator: source of the draws; None is torch's default generator.

    Raises:
        InvalidInputError: k or m below 1, epsilon not positive and finite, unknown gradient.
    """

    def __init__(
        self,
        k: int,
        epsilon: float,
        m: int,
        gradient: Gradient = "exact",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require_count("k", k)
        require_positive("epsilon", epsilon)
        require_count("m", m)
        require_choice("gradient", gradient, Gradient)
        self.k, self.epsilon, self.m = k, epsilon, m
        self.gradient: Gradient = gradient
        self.generator = generator

    def forward(self, scores_BN: Tensor) -> Tensor:
        """The 0/1 mask, shape (B, N), of the k best scores in each row; nothing is sampled here."""
        return self.mask(scores_BN, self.k)

    def mask(self, scores_BN: Tensor, k: int) -> Tensor:
        """The mask of `forward` for another k than the layer's own."""
        mask_BN: Tensor = _SmoothedTopK.apply(scores_BN, k, partial(self._jacobian_product, k))
        return mask_BN

    def _jacobian_product(self, k: int, scores_BN: Tensor, upstream_BN: Tensor) -> Tensor:
        if self.gradient == "exact":
            return exact_product(scores_BN, upstream_BN, k, self.epsilon)
        sampled = _SAMPLED[self.gradient]
        return sampled(scores_BN, upstream_BN, k, self.epsilon, self.m, self.generator)

    def extra_repr(self) -> str:
        """The hyperparameters, for printing."""
        return f"k={self.k}, epsilon={self.epsilon}, m={self.m}, gradient={self.gradient!r}"


class _SmoothedTopK(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores_BN: Tensor, k: int, product: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(scores_BN)
        ctx.k, ctx.product = k, product
        return top_k_mask(scores_BN, k)

    @staticmethod
    def backward(ctx: Any, upstream_BN: Tensor) -> tuple[Tensor, None, None]:
        (scores_BN,) = ctx.saved_tensors
        if ctx.k == scores_BN.shape[-1]:  # the mask is constant
            return torch.zeros_like(scores_BN), None, None
        return ctx.product(scores_BN, upstream_BN), None, None


def paper_product(
    scores_BN: Tensor,
    upstream_BN: Tensor,
    k: int,
    epsilon: float,
    m: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """J(c) g by Eq. 7: the mean over m draws of <g, K(c + epsilon z)> z / epsilon.

    Contracting with g first avoids the Jacobian. The leave-one-out mean of <g, K> is subtracted as
    a baseline, which lowers the variance and adds no bias. Eq. 7 omits the factor 1/epsilon; with
    it, the learning rate need not depend on epsilon.

    Returns:
        Tensor: shape (B, N).
    """
    value_B1 = scores_BN.new_zeros(scores_BN.shape[0], 1)
    noise_BN = torch.zeros_like(scores_BN)
    product_BN = torch.zeros_like(scores_BN)
    for noise_MBN in _noise(scores_BN, m, generator):
        chosen_MBK = (scores_BN + epsilon * noise_MBN).topk(k, dim=-1, sorted=False).indices
        value_MB = upstream_BN.expand_as(noise_MBN).gather(-1, chosen_MBK).sum(-1)
        value_B1 += value_MB.sum(0)[:, None]
        noise_BN += noise_MBN.sum(0)
        product_BN += torch.einsum("mb,mbn->bn", value_MB, noise_MBN)
    if m > 1:
        product_BN = (product_BN - value_B1 * noise_BN / m) * (m / (m - 1))
    return product_BN / (m * epsilon)


def conditional_product(
    scores_BN: Tensor,
    upstream_BN: Tensor,
    k: int,
    epsilon: float,
    m: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """J(c) g from m draws with each learner's own noise integrated out (Rao-Blackwell).

    Given the other noises, learner i is selected when its score passes t_i, the k-th largest of
    the other perturbed scores. Learner j, whose score is t_i, is the (k+1)-th best for a selected
    i and else the k-th. As J is symmetric, (J g)_i is the expectation of

        phi((c_i - t_i) / epsilon) / epsilon * (g_i - g_j).

    Every estimate is unbiased. The row's mean is subtracted, so that its entries sum to 0 up to
    rounding; as those of J g do, this can only lower the error. That <g, J g> >= 0 holds of the
    expectation alone. The relative error is about 0.9 / sqrt(m), and was at most 1.3 / sqrt(m)
    wherever it was measured, N from 2 to 1000.

    Returns:
        Tensor: shape (B, N).
    """
    unit_BN = scores_BN / epsilon
    product_BN = torch.zeros_like(scores_BN)
    for noise_MBN in _noise(scores_BN, m, generator):  # in place: new memory takes time
        top = noise_MBN.add_(unit_BN).topk(k + 1, dim=-1)
        selected_MBN = torch.zeros_like(noise_MBN).scatter_(-1, top.indices[..., :k], 1.0)
        upstream_MB2 = upstream_BN.expand_as(noise_MBN).gather(-1, top.indices[..., k - 1 :])
        distance_MBN = _choose(selected_MBN, top.values[..., k - 1 :]).sub_(unit_BN)
        density_MBN = distance_MBN.square_().mul_(-0.5).exp_()
        flow_MBN = density_MBN.mul_(upstream_BN - _choose(selected_MBN, upstream_MB2))
        product_BN += flow_MBN.sum(0)
    product_BN = product_BN - product_BN.mean(-1, keepdim=True)
    return product_BN / (m * epsilon * math.sqrt(2 * math.pi))


def _choose(selected_MBN: Tensor, last_in_and_first_out_MB2: Tensor) -> Tensor:
    """The value of the best unselected learner where the mask is 1, of the worst selected where 0.

    It is computed as a product: with a mask this random, `torch.where` takes several times as long.
    """
    last_in_MB1, first_out_MB1 = last_in_and_first_out_MB2.split(1, dim=-1)
    chosen_MBN: Tensor = selected_MBN * (first_out_MB1 - last_in_MB1)
    return chosen_MBN.add_(last_in_MB1)


_SAMPLED = {"conditional": conditional_product, "paper": paper_product}


def _noise(scores_BN: Tensor, m: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """M draws of standard normal noise a row, in blocks that bound the memory."""
    block = max(1, _BLOCK_ELEMENTS // scores_BN.numel())
    for start in range(0, m, block):
        shape = (min(block, m - start), *scores_BN.shape)
        yield torch.randn(
            shape, dtype=scores_BN.dtype, device=scores_BN.device, generator=generator
        )
