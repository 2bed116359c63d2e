import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from distcel.core.knapsack import (
    KnapsackLayer,
    conditional_product,
    paper_product,
    top_k_mask,
)
from distcel.core.quadrature import exact_product
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import Gradient

GRADIENTS: tuple[Gradient, ...] = get_args(Gradient)
# Of `conditional`, by m: the relative error that no seed may exceed.
LARGEST_ERROR = {4: 0.58, 10: 0.37}


def scores_and_upstream(rows: int, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores of norm 1, as the smart ensemble has them, and an upstream gradient."""
    generator = torch.Generator().manual_seed(seed)
    scores = normalize(torch.randn(rows, n, generator=generator), dim=-1)
    return scores, torch.randn(rows, n, generator=generator)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def errors_of_conditional(rows: int, n: int, k: int, epsilon: float, m: int) -> list[float]:
    """Relative error against `exact` of 20 batches of scores, each with draws of its own."""
    errors = []
    for seed in range(20):
        scores, upstream = scores_and_upstream(rows, n, seed)
        generator = torch.Generator().manual_seed(100 + seed)
        found = conditional_product(scores, upstream, k, epsilon, m, generator)
        errors.append(relative_error(found, exact_product(scores, upstream, k, epsilon)))
    return errors


def dense_product(scores_BN: Tensor, upstream_BN: Tensor, k: int, epsilon: float) -> Tensor:
    """J g from the definition of W_ij, pair by pair: dynamic programme and a fine grid of t."""
    rows = []
    for c, g in zip(scores_BN.double().numpy(), upstream_BN.double().numpy(), strict=True):
        n = len(c)
        first, second = np.triu_indices(n, 1)
        t_T, step = np.linspace(c.min() - 8 * epsilon, c.max() + 8 * epsilon, 400, retstep=True)
        weights = np.zeros((n, n))
        for t in t_T:
            x = (c - t) / epsilon
            above = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
            density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) / epsilon
            # The probability of 0, ..., k - 1 learners so far above t, without each pair.
            counts = np.zeros((len(first), k))
            counts[:, 0] = 1
            for learner, chance in enumerate(above):
                counted = np.where((first == learner) | (second == learner), 0.0, chance)[:, None]
                passed = counted[:, 0, None] * counts[:, :-1]
                counts *= 1 - counted
                counts[:, 1:] += passed
            weights[first, second] += density[first] * density[second] * counts[:, k - 1]
        weights = (weights + weights.T) * step
        rows.append(weights.sum(1) * g - weights @ g)
    return torch.from_numpy(np.array(rows))


@given(
    scores=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    data=st.data(),
)
def test_mask_holds_the_k_largest_and_exactly_k_even_of_ties(
    scores: list[int], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(scores)))
    mask = top_k_mask(torch.tensor([scores], dtype=torch.float32), k)[0]
    assert sorted(mask.unique().tolist()) in ([1.0], [0.0, 1.0])
    assert mask.sum() == k
    chosen = sorted(s for s, bit in zip(scores, mask.tolist(), strict=True) if bit)
    assert chosen == sorted(scores)[-k:]


@pytest.mark.parametrize("k", [0, 4])
def test_mask_refuses_k_outside_1_to_n(k: int) -> None:
    with pytest.raises(InvalidInputError, match=f"expected 1 <= k <= n = 3, but got {k}"):
        top_k_mask(torch.zeros(1, 3), k)


@pytest.mark.parametrize("distance", [0.0, 0.05, 0.3, 1.0])
def test_exact_is_the_closed_form_of_two_learners(distance: float) -> None:
    # P(first is selected) = Phi(d / (epsilon sqrt 2)), so dP/dc = phi(d / s) / s for s = that.
    epsilon = 0.2
    s = epsilon * math.sqrt(2)
    derivative = math.exp(-((distance / s) ** 2) / 2) / math.sqrt(2 * math.pi) / s
    scores, upstream = torch.tensor([[distance, 0.0]]), torch.tensor([[1.0, 0.0]])
    found = exact_product(scores, upstream, 1, epsilon)
    torch.testing.assert_close(
        found, torch.tensor([[derivative, -derivative]]), rtol=1e-3, atol=1e-9
    )


@pytest.mark.parametrize(("n", "k"), [(3, 1), (3, 2), (5, 2), (8, 4), (10, 1), (10, 9), (12, 3)])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 1.0])
def test_exact_matches_the_definition_pair_by_pair(n: int, k: int, epsilon: float) -> None:
    scores, upstream = scores_and_upstream(2, n, seed=n + k)
    found = exact_product(scores, upstream, k, epsilon)
    expected = dense_product(scores, upstream, k, epsilon)
    # Scores many epsilons apart give slopes far below float32's smallest number.
    assert (found - expected).norm() < 2e-3 * expected.norm() + 1e-6 / epsilon


@pytest.mark.parametrize(
    ("n", "k", "epsilon"),
    [(55, 10, 0.1), (28, 13, 0.1), (55, 10, 0.05), (15, 7, 0.1), (200, 50, 0.1), (55, 1, 0.1)],
)
def test_exact_matches_a_large_sample(n: int, k: int, epsilon: float) -> None:
    scores, upstream = scores_and_upstream(4, n)
    generator = torch.Generator().manual_seed(1)
    one, other = (
        conditional_product(scores, upstream, k, epsilon, 20_000, generator) for _ in range(2)
    )
    # An exact value is as far from the mean of two independent estimates as either of them is.
    exact = exact_product(scores, upstream, k, epsilon)
    assert relative_error(exact, (one + other) / 2) < 0.75 * relative_error(one, other)


@pytest.mark.parametrize(("n", "k"), [(3, 2), (10, 1), (10, 9), (12, 2), (12, 6)])
@pytest.mark.parametrize("shape", ["gap", "heavy tails", "ties"])
def test_exact_holds_for_scores_far_from_gaussian(n: int, k: int, shape: str) -> None:
    generator = torch.Generator().manual_seed(n * k)
    scores = torch.randn(2, n, generator=generator)
    if shape == "gap":
        scores = 0.3 * scores
        scores[:, :k] += 1.5
    elif shape == "heavy tails":
        scores = scores / torch.rand(2, n, generator=generator).clamp_min(0.05)
    else:
        scores = scores.round()
    scores, upstream = normalize(scores, dim=-1), torch.randn(2, n, generator=generator)
    for epsilon in (0.05, 0.2):
        found = exact_product(scores, upstream, k, epsilon)
        expected = dense_product(scores, upstream, k, epsilon)
        assert (found - expected).norm() < 2e-3 * expected.norm() + 1e-6 / epsilon


def test_paper_estimates_exact_without_bias() -> None:
    scores, upstream = scores_and_upstream(2, 6)
    generator = torch.Generator().manual_seed(2)
    sampled = paper_product(scores, upstream, 2, 0.2, 1_000_000, generator)
    assert relative_error(sampled, exact_product(scores, upstream, 2, 0.2)) < 0.01


@pytest.mark.parametrize("m", [1, 2, 3])
def test_few_draws_are_unbiased_too(m: int) -> None:
    # The leave-one-out baseline and its factor m / (m - 1) matter most here.
    scores, upstream = scores_and_upstream(1, 4)
    expected = exact_product(scores, upstream, 2, 0.5)
    generator = torch.Generator().manual_seed(3)
    many = 200_000
    for product in (paper_product, conditional_product):
        # Rows draw independently, so repeated rows are repeated estimates.
        repeated = product(scores.expand(many, -1), upstream.expand(many, -1), 2, 0.5, m, generator)
        assert relative_error(repeated.mean(0, keepdim=True), expected) < 0.02


@pytest.mark.parametrize("m", LARGEST_ERROR)
@pytest.mark.parametrize(
    ("rows", "n", "k", "epsilon"),
    [(256, 55, 10, 0.1), (256, 28, 13, 0.1), (1024, 55, 10, 0.05), (128, 15, 7, 0.1)],
)
def test_conditional_error_meets_its_target(
    rows: int, n: int, k: int, epsilon: float, m: int
) -> None:
    assert max(errors_of_conditional(rows, n, k, epsilon, m)) <= LARGEST_ERROR[m]


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize(
    ("n", "k", "epsilon"), [(4, 2, 0.5), (8, 1, 0.2), (8, 7, 0.2), (15, 7, 0.1)]
)
def test_conditional_is_unbiased_in_each_entry_and_its_rows_sum_to_zero(
    n: int, k: int, epsilon: float, m: int
) -> None:
    scores, upstream = scores_and_upstream(1, n)
    expected = dense_product(scores, upstream, k, epsilon)[0]
    generator = torch.Generator().manual_seed(6)
    many = 400_000 // m
    rows = scores.expand(many, -1), upstream.expand(many, -1)
    found = conditional_product(*rows, k, epsilon, m, generator).double()
    assert found.sum(-1).abs().max() <= 1e-5 * found.abs().sum(-1).max()
    standard_error = found.std(0) / math.sqrt(many)
    assert ((found.mean(0) - expected).abs() <= 4 * standard_error + 1e-5 * expected.norm()).all()


def gradient_of(layer: KnapsackLayer, scores: Tensor, upstream: Tensor) -> Tensor:
    leaf = scores.clone().requires_grad_()
    (layer(leaf) * upstream).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("gradient", GRADIENTS)
class TestEveryGradient:
    def layer(self, gradient: Gradient, k: int, epsilon: float = 0.1) -> KnapsackLayer:
        generator = torch.Generator().manual_seed(5)
        return KnapsackLayer(k, epsilon, 20, gradient, generator)

    def test_forward_is_the_hard_mask_and_draws_nothing(self, gradient: Gradient) -> None:
        layer = self.layer(gradient, 3)
        assert layer.generator is not None
        before = layer.generator.get_state()
        scores, _ = scores_and_upstream(5, 9)
        assert torch.equal(layer(scores), top_k_mask(scores, 3))
        assert torch.equal(layer.generator.get_state(), before)

    def test_it_is_the_gradient_of_that_name(self, gradient: Gradient) -> None:
        scores, upstream = scores_and_upstream(5, 9)
        drawn = 20, torch.Generator().manual_seed(5)
        expected = {
            "exact": lambda: exact_product(scores, upstream, 3, 0.1),
            "conditional": lambda: conditional_product(scores, upstream, 3, 0.1, *drawn),
            "paper": lambda: paper_product(scores, upstream, 3, 0.1, *drawn),
        }
        found = gradient_of(self.layer(gradient, 3), scores, upstream)
        assert found.equal(expected[gradient]())

    def test_the_same_seed_gives_the_same_gradient(self, gradient: Gradient) -> None:
        scores, upstream = scores_and_upstream(5, 9)
        first = gradient_of(self.layer(gradient, 3), scores, upstream)
        torch.rand(7)  # the default generator must not matter
        assert torch.equal(first, gradient_of(self.layer(gradient, 3), scores, upstream))

    def test_selecting_all_gives_ones_and_a_zero_gradient(self, gradient: Gradient) -> None:
        scores, upstream = scores_and_upstream(5, 9)
        layer = self.layer(gradient, 9)
        assert torch.equal(layer(scores), torch.ones(5, 9))
        assert torch.equal(gradient_of(layer, scores, upstream), torch.zeros(5, 9))

    @pytest.mark.parametrize("epsilon", [1e-4, 0.1, 100.0])
    def test_equal_scores_give_a_finite_gradient(self, gradient: Gradient, epsilon: float) -> None:
        upstream = scores_and_upstream(3, 9)[1]
        found = gradient_of(self.layer(gradient, 4, epsilon), torch.zeros(3, 9), upstream)
        assert torch.isfinite(found).all()
        assert found.abs().sum() > 0

    def test_a_constant_added_upstream_changes_nothing(self, gradient: Gradient) -> None:
        scores, upstream = scores_and_upstream(6, 12)
        first = gradient_of(self.layer(gradient, 4), scores, upstream)
        second = gradient_of(self.layer(gradient, 4), scores, upstream + 3)
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-3 * float(first.abs().max()))

    def test_scaling_scores_and_epsilon_scales_the_gradient_back(self, gradient: Gradient) -> None:
        scores, upstream = scores_and_upstream(6, 12)
        first = gradient_of(self.layer(gradient, 4, 0.1), scores, upstream)
        scaled = gradient_of(self.layer(gradient, 4, 0.1 * 4), scores * 4, upstream)
        torch.testing.assert_close(first, scaled * 4, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("gradient", ["exact", "conditional"])
@given(n=st.integers(2, 30), epsilon=st.floats(0.01, 3.0), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_sum_to_zero_and_exact_is_positive_semidefinite(
    gradient: Gradient, n: int, epsilon: float, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n - 1))
    scores, upstream = scores_and_upstream(3, n, seed)
    layer = KnapsackLayer(k, epsilon, 8, gradient, torch.Generator().manual_seed(seed))
    found = gradient_of(layer, scores, upstream)
    # Where scores are many epsilons apart, float32 rounds at 1e-7 of the largest slope, 1/epsilon.
    slack = 1e-3 * float(found.abs().sum()) + 1e-6 / epsilon
    assert found.sum(-1).abs().max() <= slack
    if gradient == "exact":  # of `conditional` it holds in the mean alone
        assert (found * upstream).sum(-1).min() >= -slack


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0.1, 1, "exact"), "expected a whole number k >= 1, but got 0"),
        ((1, 0.0, 1, "exact"), "expected 0 < epsilon < infinity, but got 0.0"),
        ((1, float("nan"), 1, "exact"), "expected 0 < epsilon < infinity, but got nan"),
        ((1, 0.1, 0, "exact"), "expected a whole number m >= 1, but got 0"),
        ((1, 0.1, 1, "other"), "expected gradient in .*, but got 'other'"),
    ],
)
def test_the_layer_refuses(arguments: tuple[int, float, int, Gradient], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        KnapsackLayer(*arguments)
