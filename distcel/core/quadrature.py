"""The knapsack layer's exact gradient: its Jacobian's product with a vector, by quadrature.

Shapes: B rows, N learners, T quadrature nodes.
"""

from __future__ import annotations

import cmath
import math

import torch
from torch import Tensor

# Limits the temporaries to half a megabyte each, so that the allocator reuses them.
_BLOCK_ELEMENTS = 1 << 17
# Nodes t = centre + width sinh(a u) / a with u evenly spaced: dense where the integrand is large,
# and far-reaching, since the distribution of an extreme score is skewed.
_N_NODES, _NODE_SPACING, _STRETCH = 9, 0.7, 0.6


def exact_product(scores_BN: Tensor, upstream_BN: Tensor, k: int, epsilon: float) -> Tensor:
    """J(c) g without draws, by quadrature; the relative error is about 1e-3.

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
    rows = max(1, _BLOCK_ELEMENTS // (n * _N_NODES))  # a dozen such tensors live at once
    if scores_BN.device.type != "cpu":
        rows = scores_BN.shape[0]
    # Subtracting the means changes nothing and keeps the differences exact in float32.
    unit_BN = (scores_BN - scores_BN.mean(-1, keepdim=True)) / epsilon
    centred_BN = upstream_BN - upstream_BN.mean(-1, keepdim=True)
    # Learners first: sums over them, and products with one factor a row, then run along memory.
    blocks = zip(unit_BN.split(rows), centred_BN.split(rows), strict=True)
    product = [_quadrature(c.T.contiguous(), g.T.contiguous(), k, n_circle).T for c, g in blocks]
    return torch.cat(product) / epsilon


def _quadrature(scores_NB: Tensor, upstream_NB: Tensor, k: int, n_circle: int) -> Tensor:
    """J g of one block of rows as a sum over nodes t, with scores in units of epsilon."""
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
    """The centre and the width of the range of t with ties for the last place, each (B,).

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
