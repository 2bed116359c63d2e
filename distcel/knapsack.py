"""The knapsack layer (Eqs. 4-7): hard top-k forward, a smoothed gradient backward.

Forward it is K(c), the 0/1 mask b with sum(b) = k that maximises <c, b>. Backward it uses the
Jacobian J(c) of P(c) = E[K(c + epsilon z)], z standard normal (Eq. 5), computed in one of three
ways. J is symmetric, its rows sum to 0 and <g, J g> >= 0, so J g is the gradient for upstream g.

This module needs nothing but torch. Shapes: B rows, N learners, M noise samples, T quadrature
nodes.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from distcel.types import Gradient, require, require_choice, require_count, require_positive

# Bounds the temporaries, a few megabytes each, so that the allocator reuses them.
_BLOCK_ELEMENTS = 1 << 20


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
            `paper` (Eq. 7).
        generator: source of the draws, torch's default one if None.

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
        mask_BN: Tensor = _SmoothedTopK.apply(scores_BN, self.k, self._jacobian_product)
        return mask_BN

    def _jacobian_product(self, scores_BN: Tensor, upstream_BN: Tensor) -> Tensor:
        if self.gradient == "exact":
            return exact_product(scores_BN, upstream_BN, self.k, self.epsilon)
        sampled = conditional_product if self.gradient == "conditional" else paper_product
        return sampled(scores_BN, upstream_BN, self.k, self.epsilon, self.m, self.generator)

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

    Contracted with g first, so no Jacobian is formed. The leave-one-out mean of <g, K> is
    subtracted as a baseline: unbiased, and a quarter of the variance. Eq. 7 leaves the 1/epsilon
    out; with it, epsilon is not tangled with the learning rate.

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
    the other perturbed scores: dP(i in)/dc_i = phi((c_i - t_i) / epsilon) / epsilon, and the
    learner j at t_i loses as much. For a selected i, j is the (k+1)-th best; else the k-th. Half
    of each pair's flow is booked from either side, so every estimate is a Laplacian as J itself
    is. The relative error is a small multiple of 1/sqrt(m): 2 at N = 55, 5 at N = 200.

    Returns:
        Tensor: shape (B, N).
    """
    product_BN = torch.zeros_like(scores_BN)
    for noise_MBN in _noise(scores_BN, m, generator):
        upstream_MBN = upstream_BN.expand_as(noise_MBN)
        top = (scores_BN + epsilon * noise_MBN).topk(k + 1, dim=-1)
        last_in_MB1, first_out_MB1 = top.indices[..., k - 1 : k], top.indices[..., k:]
        selected_MBN = torch.zeros_like(noise_MBN, dtype=torch.bool)
        selected_MBN.scatter_(-1, top.indices[..., :k], True)
        threshold_MBN = torch.where(selected_MBN, top.values[..., k:], top.values[..., k - 1 : k])
        tied_upstream_MBN = torch.where(
            selected_MBN,
            upstream_MBN.gather(-1, first_out_MB1),
            upstream_MBN.gather(-1, last_in_MB1),
        )
        density_MBN = torch.exp(-0.5 * ((scores_BN - threshold_MBN) / epsilon).square())
        flow_MBN = density_MBN * (upstream_MBN - tied_upstream_MBN)
        selected_flow_MB1 = flow_MBN.where(selected_MBN, 0.0).sum(-1, keepdim=True)
        flow_MB1 = flow_MBN.sum(-1, keepdim=True)
        flow_MBN.scatter_add_(-1, first_out_MB1, -selected_flow_MB1)
        flow_MBN.scatter_add_(-1, last_in_MB1, selected_flow_MB1 - flow_MB1)
        product_BN += flow_MBN.sum(0)
    return product_BN / (2 * m * epsilon * math.sqrt(2 * math.pi))


def exact_product(scores_BN: Tensor, upstream_BN: Tensor, k: int, epsilon: float) -> Tensor:
    """J(c) g without draws, by quadrature; the relative error is below 1e-3.

    J is a weighted graph's Laplacian, (J g)_i = sum_j W_ij (g_i - g_j), where W_ij is the density
    of learners i and j tying for the last place:

        W_ij = integral over t of d_i(t) d_j(t) Pr(exactly k - 1 of the others lie above t),

    d_i the normal density of c_i + epsilon z_i. With s_l = Pr(c_l + epsilon z_l > t), the
    probability is the coefficient of w^(k-1) in prod_l (1 - s_l + s_l w) over the others. It is
    read off by a Fourier sum over W points w of a circle, with i and j divided out; as the sum over
    j then factorises, the time is O(N T W) a row and the memory O(N T). Needs 1 <= k < N.

    Returns:
        Tensor: shape (B, N).
    """
    n = scores_BN.shape[-1]
    spread = math.sqrt(k * (1 - k / n))  # bounds the standard deviation of the count above t
    n_circle = max(5, math.ceil(2 * spread + 1.5))
    rows = max(1, _BLOCK_ELEMENTS // (8 * n * _N_NODES))  # a dozen such tensors live at once
    if scores_BN.device.type != "cpu":
        rows = scores_BN.shape[0]
    # Subtracting the means changes nothing and keeps the differences exact in float32.
    unit_BN = (scores_BN - scores_BN.mean(-1, keepdim=True)) / epsilon
    centred_BN = upstream_BN - upstream_BN.mean(-1, keepdim=True)
    # Learners first: sums over them, and products with one factor a row, then run along memory.
    blocks = zip(unit_BN.split(rows), centred_BN.split(rows), strict=True)
    product = [_quadrature(c.T.contiguous(), g.T.contiguous(), k, n_circle).T for c, g in blocks]
    return torch.cat(product) / epsilon


# Nodes t = centre + width sinh(a u) / a with u evenly spaced: dense where the integrand is, and a
# long reach, since an extreme score's distribution is skewed.
_N_NODES, _NODE_SPACING, _STRETCH = 9, 0.7, 0.6


def _quadrature(scores_NB: Tensor, upstream_NB: Tensor, k: int, n_circle: int) -> Tensor:
    """J g of one block of rows, scores in units of epsilon: a sum over nodes t."""
    centre_B, width_B = _threshold(scores_NB, k)
    steps_T = torch.arange(_N_NODES, dtype=scores_NB.dtype, device=scores_NB.device)
    steps_T = _STRETCH * _NODE_SPACING * (steps_T - (_N_NODES - 1) / 2)
    offsets_T, lengths_T = steps_T.sinh() / _STRETCH, steps_T.cosh() * _NODE_SPACING
    distance_NTB = scores_NB[:, None, :] - (centre_B + width_B * offsets_T[:, None])
    above_NTB = 0.5 * torch.erfc(-distance_NTB / math.sqrt(2))
    below_NTB = 0.5 * torch.erfc(distance_NTB / math.sqrt(2))

    # The circle's radius tilts every s_l to p_l with sum(p_l) = k, the saddle point: there the
    # wanted coefficient is the largest one, and few points on the circle are enough.
    log_odds_NTB = _log(above_NTB) - _log(below_NTB)
    log_radius_TB = torch.zeros_like(log_odds_NTB[0])
    for _ in range(2):
        tilted_NTB = torch.sigmoid(log_odds_NTB + log_radius_TB)
        excess_TB = tilted_NTB.sum(0) - k
        variance_TB = (tilted_NTB * (1 - tilted_NTB)).sum(0)
        log_radius_TB = log_radius_TB - (excess_TB / (variance_TB + 0.3)).clamp(-3, 3)
    tilted_NTB = torch.sigmoid(log_odds_NTB + log_radius_TB)
    scale_NTB = below_NTB + above_NTB * log_radius_TB.exp()
    density_NTB = torch.exp(-0.5 * distance_NTB.square()) / (math.sqrt(2 * math.pi) * scale_NTB)
    weight_TB = (_log(scale_NTB).sum(0) - (k - 1) * log_radius_TB).exp() * lengths_T[:, None]
    return _circle_sum(tilted_NTB, density_NTB, weight_TB, upstream_NB, k, n_circle) * width_B


def _circle_sum(
    tilted_NTB: Tensor,
    density_NTB: Tensor,
    weight_TB: Tensor,
    upstream_NB: Tensor,
    k: int,
    n_circle: int,
) -> Tensor:
    """The sum over points w of the circle and nodes t, (N, B).

    At w the generating function is Q = prod_l q_l with q_l = 1 - p_l + p_l w, and learner i has
    the share r_i = d_i / q_i of it. This adds up Re[w^-(k-1) Q r_i sum_j r_j (g_i - g_j)].
    """
    upstream_N1B = upstream_NB[:, None, :]
    own_NTB, others_NTB = torch.zeros_like(tilted_NTB), torch.zeros_like(tilted_NTB)
    # Written in place throughout: new memory at every step would cost as much as the arithmetic.
    real_NTB, imag_NTB, scratch_NTB = (torch.empty_like(tilted_NTB) for _ in range(3))
    point_NTB = torch.complex(own_NTB, own_NTB)
    for point in range(n_circle):  # half the circle: the other half is the complex conjugate
        angle = 2 * math.pi * point / (2 * n_circle - 1)
        factor = cmath.rect((2 if point else 1) / (2 * n_circle - 1), -(k - 1) * angle)
        torch.mul(tilted_NTB, math.cos(angle) - 1, out=real_NTB).add_(1)
        torch.mul(tilted_NTB, math.sin(angle), out=imag_NTB)
        product_TB = factor * weight_TB * torch.complex(real_NTB, imag_NTB, out=point_NTB).prod(0)
        # From q = real + i imag to the share d / q = real - i imag.
        torch.mul(real_NTB, real_NTB, out=scratch_NTB).addcmul_(imag_NTB, imag_NTB)
        torch.div(density_NTB, scratch_NTB, out=scratch_NTB)
        real_NTB *= scratch_NTB
        imag_NTB *= scratch_NTB
        total_TB = product_TB * torch.complex(real_NTB.sum(0), -imag_NTB.sum(0))
        own_NTB.addcmul_(real_NTB, total_TB.real.contiguous())
        own_NTB.addcmul_(imag_NTB, total_TB.imag.contiguous())
        real_TB, imag_TB = (
            torch.mul(part_NTB, upstream_N1B, out=scratch_NTB).sum(0)
            for part_NTB in (real_NTB, imag_NTB)
        )
        total_TB = product_TB * torch.complex(real_TB, -imag_TB)
        others_NTB.addcmul_(real_NTB, total_TB.real.contiguous())
        others_NTB.addcmul_(imag_NTB, total_TB.imag.contiguous())
    return own_NTB.sum(1) * upstream_NB - others_NTB.sum(1)


def _threshold(scores_NB: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Where on the scale of t the ties for the last place lie: centre and width, each (B,).

    By Newton's method on logit(mean of s_l) = logit(k / N), then one step to the mode of
    log(sum of d_i d_j over i != j) minus half the squared standard score of the count.
    """
    n = len(scores_NB)
    best = scores_NB.topk(k + 1, dim=0).values
    centre_B = (best[k - 1] + best[k]) / 2
    for _ in range(4):
        above_NB, density_NB, _ = _above_and_density(scores_NB, centre_B)
        mean_B = above_NB.mean(0).clamp(1e-6, 1 - 1e-6)
        slope_B = density_NB.mean(0) / (mean_B * (1 - mean_B)) + 1e-12
        error_B = torch.logit(mean_B) - math.log(k / (n - k))
        centre_B = centre_B + (error_B / slope_B).clamp(-1, 1)
    above_NB, d_NB, x_NB = _above_and_density(scores_NB, centre_B)

    first_B, second_B = (x_NB * d_NB).sum(0), ((x_NB.square() - 1) * d_NB).sum(0)
    sum_B, squares_NB = d_NB.sum(0), d_NB.square()
    pairs_B = sum_B.square() - squares_NB.sum(0) + 1e-30
    pairs_slope_B = 2 * sum_B * first_B - (2 * x_NB * squares_NB).sum(0)
    pairs_curve_B = (
        2 * first_B.square() + 2 * sum_B * second_B - ((4 * x_NB.square() - 2) * squares_NB).sum(0)
    )
    slope_B = pairs_slope_B / pairs_B
    curvature_B = slope_B.square() - pairs_curve_B / pairs_B
    variance_B = (above_NB * (1 - above_NB)).sum(0)
    precision_B = curvature_B.clamp(0.5, 2) + sum_B.square() / (variance_B + 1)
    return centre_B + (slope_B / precision_B).clamp(-1, 1), precision_B.rsqrt()


def _above_and_density(scores_NB: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x_NB = scores_NB - t_B
    above_NB = 0.5 * torch.erfc(-x_NB / math.sqrt(2))
    return above_NB, torch.exp(-0.5 * x_NB.square()) / math.sqrt(2 * math.pi), x_NB


def _log(positive: Tensor) -> Tensor:
    return positive.clamp_min(torch.finfo(positive.dtype).tiny).log()


def _noise(scores_BN: Tensor, m: int, generator: torch.Generator | None) -> Iterator[Tensor]:
    """M draws of standard normal noise a row, in blocks that bound the memory."""
    block = max(1, _BLOCK_ELEMENTS // scores_BN.numel())
    for start in range(0, m, block):
        shape = (min(block, m - start), *scores_BN.shape)
        yield torch.randn(
            shape, dtype=scores_BN.dtype, device=scores_BN.device, generator=generator
        )
