import math

import pytest
import torch

from distcel.core.knapsack import top_k_mask
from distcel.core.priced_layer import PricedKnapsackLayer
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import Gradient


def random_scores(rows: int, n: int) -> torch.Tensor:
    return torch.randn(rows, n, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_mask_has_the_k_best_net_scores_that_are_above_zero(k: int) -> None:
    scores, prices = random_scores(200, 5), torch.tensor([0.0, 1.0, 2.0, 0.5, 4.0])
    weights = torch.linspace(0, 1, 200)
    mask = PricedKnapsackLayer(prices.tolist(), k, 0.1, 1)(scores, weights)
    net = scores - weights[:, None] * prices
    assert torch.equal(mask, top_k_mask(net, k) * (net > 0))
    assert set(mask.sum(-1).int().tolist()) == set(range(k + 1))


def test_without_a_price_weight_it_is_the_knapsack_layer() -> None:
    scores = random_scores(50, 6).abs()
    mask = PricedKnapsackLayer([1.0] * 6, 2, 0.1, 1)(scores, 0.0)
    assert torch.equal(mask, top_k_mask(scores, 2))


@pytest.mark.parametrize(("gradient", "tolerance"), [("exact", 1e-3), ("conditional", 0.02)])
def test_the_gradient_is_that_of_the_probability_of_being_worth_the_price(
    gradient: Gradient, tolerance: float
) -> None:
    # One learner and one dummy: Pr(c - lambda p + eps z > eps z') = Phi(u), of derivative phi(u)/s.
    scores = torch.linspace(-0.5, 1.0, 20)[:, None].requires_grad_()
    epsilon, price, weight = 0.3, 2.0, 0.15
    generator = torch.Generator().manual_seed(0)
    layer = PricedKnapsackLayer([price], 1, epsilon, 20_000, gradient, generator)
    layer(scores, weight).sum().backward()
    scale = epsilon * math.sqrt(2)
    u = (scores.detach() - weight * price) / scale
    expected = torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi) / scale
    assert scores.grad is not None
    assert float((scores.grad - expected).norm() / expected.norm()) < tolerance


def test_the_spent_price_of_a_row_is_that_of_its_selected_learners() -> None:
    layer = PricedKnapsackLayer([5.0, 15.0, 10.0], 3, 0.1, 1)
    mask = layer(torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]]), 0.01)
    assert layer.spent(mask).tolist() == [20.0, 0.0]


@pytest.mark.parametrize(
    ("prices", "k", "message"),
    [([1.0, -1.0], 1, "price"), ([1.0, math.nan], 1, "price"), ([1.0, 2.0], 3, "k <= n = 2")],
)
def test_it_refuses_unusable_prices(prices: list[float], k: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        PricedKnapsackLayer(prices, k, 0.1, 1)


def test_it_refuses_another_number_of_scores() -> None:
    with pytest.raises(InvalidInputError, match="n = 2 scores a row"):
        PricedKnapsackLayer([1.0, 2.0], 1, 0.1, 1)(torch.ones(4, 3), 0.1)
