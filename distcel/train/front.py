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
_N_HALVINGS = 20
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
def weight_within(ensemble: PricedEnsemble, inputs_S: Tensor, probs_SNC: Tensor) -> PriceWeight:
    """The weight of price at which a sample's mean price is the budget, or little less.

    From the highest weight down, it is where the price first passes the budget: between two weights
    that are nearly equal, of which as many samples as the budget allows have the lower one.
    Without a budget, and where it is enough, the weight is 0: whoever adds anything is asked.

    Args:
        ensemble: the ensemble; its own weight of price is not used.
        inputs_S: what the net sees of the samples whose mean price is limited.
        probs_SNC: the learners' outputs for these samples.
    """
    budget = ensemble.prices.budget
    if budget is None:
        return PriceWeight(0.0, 0.0, 0.0)
    ensemble.eval()
    batches = zip(inputs_S.split(_BATCH), probs_SNC.split(_BATCH), strict=True)
    seen = [(ensemble.scores(inputs), answered(probs)) for inputs, probs in batches]
    scores_SKN, can_SN = (torch.cat(parts) for parts in zip(*seen, strict=True))

    def spent(weight: float) -> Tensor:
        weight_S = torch.full((len(can_SN),), weight, device=can_SN.device)
        return (ensemble.mask(scores_SKN, can_SN, weight_S) @ ensemble.prices_N).double()

    def is_within(weight: float) -> bool:
        return float(spent(weight).mean()) <= budget

    if is_within(0.0):
        return PriceWeight(0.0, 0.0, 0.0)
    weights = weights_of(ensemble.prices)
    # From above, since the price of a trained net may be low again at some lower weight.
    above = next(i for i in range(len(weights) - 1, -1, -1) if not is_within(weights[i]))
    if above == len(weights) - 1:  # it asks more than those that are always asked at any weight
        cheapest = min(weights, key=lambda weight: float(spent(weight).mean()))
        return PriceWeight(cheapest, cheapest, 0.0)
    low, high = weights[above], weights[above + 1]
    for _ in range(_N_HALVINGS):  # what is left between the two is shared by chance
        middle = (low + high) / 2
        low, high = (low, middle) if is_within(middle) else (middle, high)
    at_high_S, at_low_S = spent(high), spent(low)
    hash_S, order_S = uniform_hash(inputs_S).sort()
    more_S = (at_low_S - at_high_S)[order_S].cumsum(0) / len(order_S)
    within_S = at_high_S.mean() + more_S <= budget
    n_low = int(within_S.nonzero().max()) + 1 if within_S.any() else 0
    share = float(hash_S[n_low]) if n_low < len(hash_S) else 1.0
    return PriceWeight(high, low, share)


def pareto(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """The points that no other one beats in accuracy at the same or a lower price, by price."""
    front: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: (point.price, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front
