"""Accuracy over price, and the weight at which a budget is spent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distcel.core.priced_ensemble import N_KNOTS, PricedEnsemble, priced_ensemble
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.prices import Prices
from distcel.experiment.types import SelectionParams
from distcel.train.front import FrontPoint, measure_front, pareto, weight_within

PRICES = Prices((0.5, 2.0), n_always=1)


class _Net(nn.Module):
    def forward(self, scores_B1: Tensor) -> Tensor:
        return torch.cat([scores_B1, scores_B1.new_zeros(len(scores_B1), N_KNOTS)], dim=1)


@pytest.fixture
def ensemble() -> PricedEnsemble:
    params = SelectionParams(1, 0.3, 1, 0.01, "exact", "learned")
    found = priced_ensemble(_Net(), params, PRICES, n_classes=2).eval()
    with torch.no_grad():  # the second learner is believed
        found.vote.matrices_NFC[1, :2] = 8 * torch.eye(2)
    return found


def _data(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    right = 0.1 + 0.8 * torch.eye(2)[labels]
    probs = torch.stack([torch.full((n, 2), 0.5), right], dim=1)
    return torch.rand(n, 1, generator=generator), probs, labels


def test_the_front_by_hand(ensemble: PricedEnsemble) -> None:
    scores, probs, labels = _data(200)
    points = measure_front(ensemble, scores, probs, labels, [0.0, 0.1, 2.0])
    shares = [(scores.tanh() > 2.0 * weight).float().mean().item() for weight in (0.0, 0.1, 2.0)]
    assert [p.price for p in points] == pytest.approx([0.5 + 2.0 * share for share in shares])
    assert [p.accuracy for p in points] == pytest.approx([1.0, 0.5 + shares[1] / 2, 0.5], abs=0.1)


@pytest.mark.parametrize("budget", [0.5, 0.6, 1.0, 1.7, 2.4])
def test_a_budget_is_spent_and_not_exceeded(ensemble: PricedEnsemble, budget: float) -> None:
    scores, probs, _ = _data(500)
    scores = (scores > 0.5) * 0.5 + scores * 1e-3  # two groups: no single weight spends it
    ensemble.prices = replace(PRICES, budget=budget)
    ensemble.price_weight = weight_within(ensemble, scores, probs)
    spent = (ensemble.select(scores, probs) @ ensemble.prices_N).mean().item()
    assert budget - 2.0 / 500 - 1e-5 <= spent <= budget + 1e-5


def test_a_budget_is_spent_on_those_for_whom_it_is_worth_most(ensemble: PricedEnsemble) -> None:
    scores, probs, _ = _data(500)
    scores = 0.5 + scores * 1e-3  # all of them are between two of the weights that are measured
    ensemble.prices = replace(PRICES, budget=1.0)
    ensemble.price_weight = weight_within(ensemble, scores, probs)
    asked = ensemble.select(scores, probs)[:, 1].bool()
    assert asked.sum() == 125  # of 500, at 2.0 each
    assert scores[asked].min() > scores[~asked].max()


def test_without_a_budget_whoever_adds_anything_is_asked(ensemble: PricedEnsemble) -> None:
    scores, probs, _ = _data(20)
    for budget in (None, 9.0):
        ensemble.prices = replace(PRICES, budget=budget)
        found = weight_within(ensemble, scores, probs)
        assert (found.high, found.low) == (0.0, 0.0)


def test_where_the_net_asks_too_much_at_any_weight_the_cheapest_is_taken(
    ensemble: PricedEnsemble,
) -> None:
    scores, probs, _ = _data(20)
    # Scores are at most 1, so that nobody is asked at the highest weight; a lower budget is below.
    ensemble.prices = replace(PRICES, budget=0.5)
    object.__setattr__(ensemble.prices, "budget", 0.4)
    found = weight_within(ensemble, scores, probs)
    assert found.high == found.low > 0
    ensemble.price_weight = found
    assert not ensemble.select(scores, probs)[:, 1].any()


def test_the_pareto_front() -> None:
    points = [
        FrontPoint(w, p, a) for w, p, a in ((0, 3, 0.9), (1, 2, 0.9), (2, 1, 0.8), (3, 1.5, 0.7))
    ]
    assert [point.price_weight for point in pareto(points)] == [2, 1]


@pytest.mark.parametrize(
    ("prices", "n_always", "budget", "rule"),
    [
        ((1.0, -1.0), 0, None, "price"),
        ((1.0, float("nan")), 0, None, "price"),
        ((1.0, 2.0), 2, None, "not always asked"),
        ((1.0, 2.0), 1, 0.5, "budget >= 1"),
    ],
)
def test_impossible_prices_are_refused(
    prices: tuple[float, ...], n_always: int, budget: float | None, rule: str
) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        Prices(prices, n_always, budget)


def test_prices_of_nothing_have_a_range_of_weights() -> None:
    assert Prices((0.0, 0.0)).weight_range == (0.003, 1.0)
    assert Prices((1.0, 5.0, 20.0), 1).weight_range == (0.003 / 20, 1 / 5)
