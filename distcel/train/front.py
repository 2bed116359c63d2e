"""Accuracy over price: one priced ensemble at every weight of price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distcel.core.ensemble import answered
from distcel.core.priced_ensemble import PricedEnsemble, answer_features, uniform_hash
from distcel.experiment.prices import Prices, PriceWeight

_N_WEIGHTS = 100
_BATCH = 1024


@dataclass(frozen=True)
class FrontPoint:
    """The ensemble at one weight of price.

    Attributes:
        price_weight: lambda.
        price: the mean price of a sample.
        accuracy: the share of samples that are classified correctly.
    """

    price_weight: float
    price: float
    accuracy: float


def weights_of(prices: Prices) -> list[float]:
    """The weights of price that are measured: 0, and 100 on a logarithmic scale."""
    low, high = prices.weight_range
    return [0.0, *np.geomspace(low, 2 * high, _N_WEIGHTS).tolist()]


@torch.inference_mode()
def measure_front(
    ensemble: PricedEnsemble,
    inputs_S: Tensor,
    probs_SNC: Tensor,
    labels_S: Tensor,
    weights: Sequence[float],
) -> list[FrontPoint]:
    """The ensemble's mean price and accuracy at each weight of price; the net scores once."""
    ensemble.eval()
    n_correct, spent = np.zeros(len(weights)), np.zeros(len(weights))
    batches = (values.split(_BATCH) for values in (inputs_S, probs_SNC, labels_S))
    for inputs_B, probs_BNC, labels_B in zip(*batches, strict=True):
        scores_BKN, can_BN = ensemble.scores(inputs_B), answered(probs_BNC)
        features_BNF = answer_features(probs_BNC)
        for i, weight in enumerate(weights):
            weight_B = torch.full((len(labels_B),), weight, device=probs_BNC.device)
            mask_BN = ensemble.mask(scores_BKN, can_BN, weight_B)
            logits_BC = ensemble.vote(mask_BN, features_BNF)
            n_correct[i] += int((logits_BC.argmax(-1) == labels_B).sum())
            spent[i] += float((mask_BN @ ensemble.prices_N).double().sum())
    n = len(labels_S)
    return [
        FrontPoint(weight, float(price), float(accuracy))
        for weight, price, accuracy in zip(weights, spent / n, n_correct / n, strict=True)
    ]


@torch.inference_mode()
def choose_weight(
    ensemble: PricedEnsemble,
    inputs_S: Tensor,
    probs_SNC: Tensor,
    points: Sequence[FrontPoint],
    budget: float | None,
) -> PriceWeight:
    """The weight of price of the most accurate point, or of the two around the budget.

    The most accurate point is taken, the cheapest of equals, if its price is within the budget.
    Otherwise the budget lies between the prices of two weights, and as many samples as it allows
    have the lower weight; no accuracy decides there.

    Args:
        ensemble: the ensemble; its own weight of price is not used.
        inputs_S: what the net sees of the samples that must cost no more than the budget, on mean.
        probs_SNC: the learners' outputs for these samples.
        points: the ensemble at each weight on the same samples.
        budget: the highest mean price of a sample; None for no limit.
    """
    best = max(points, key=lambda point: (point.accuracy, -point.price))
    if budget is None or best.price <= budget:
        return PriceWeight(best.price_weight, best.price_weight, 0.0)
    cheaper = [point for point in points if point.price <= budget]
    if not cheaper:  # the selection net asks more than those that are always asked at any weight
        cheapest = min(points, key=lambda point: point.price)
        return PriceWeight(cheapest.price_weight, cheapest.price_weight, 0.0)
    high = max(cheaper, key=lambda point: point.price)
    low = min((p for p in points if p.price > budget), key=lambda point: point.price)
    spent_2S = [_spent(ensemble, inputs_S, probs_SNC, p.price_weight) for p in (high, low)]
    hash_S, order_S = uniform_hash(inputs_S).sort()
    more_S = (spent_2S[1] - spent_2S[0])[order_S].cumsum(0) / len(order_S)
    within_S = spent_2S[0].mean() + more_S <= budget
    n_low = int(within_S.nonzero().max()) + 1 if within_S.any() else 0
    share = float(hash_S[n_low]) if n_low < len(hash_S) else 1.0
    return PriceWeight(high.price_weight, low.price_weight, share)


def _spent(ensemble: PricedEnsemble, inputs_S: Tensor, probs_SNC: Tensor, weight: float) -> Tensor:
    """The price of each sample at this weight, shape (S,)."""
    ensemble.eval()
    spent = []
    for inputs_B, probs_BNC in zip(inputs_S.split(_BATCH), probs_SNC.split(_BATCH), strict=True):
        weight_B = torch.full((len(inputs_B),), weight, device=inputs_B.device)
        mask_BN = ensemble.mask(ensemble.scores(inputs_B), answered(probs_BNC), weight_B)
        spent.append((mask_BN @ ensemble.prices_N).double())
    return torch.cat(spent)


def pareto(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points that no other one beats in accuracy at the same or a lower price, by price."""
    front: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: (point.price, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
