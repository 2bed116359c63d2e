"""Accuracy over price: one priced ensemble at every weight of price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distcel.core.priced_ensemble import PricedEnsemble, answer_features, answered
from distcel.experiment.prices import Prices

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


def best_within(points: Sequence[FrontPoint], budget: float | None) -> FrontPoint:
    """The most accurate point whose price is within the budget, the cheapest of equals.

    The cheapest point of all where none is within the budget.
    """
    within = [point for point in points if budget is None or point.price <= budget]
    if not within:
        return min(points, key=lambda point: point.price)
    return max(within, key=lambda point: (point.accuracy, -point.price))


def pareto(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points that no other one beats in accuracy at the same or a lower price, by price."""
    front: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: (point.price, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
