"""The priced ensemble: whom it asks at which weight of price, and how it combines the answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distcel.core.priced_ensemble import (
    N_KNOTS,
    PricedEnsemble,
    SubsetVote,
    answer_features,
    priced_ensemble,
    random_subsets,
    uniform_hash,
)
from distcel.experiment.prices import Prices, PriceWeight
from distcel.experiment.types import SelectionParams

PARAMS = SelectionParams(2, 0.3, 1, 0.01, "exact", "learned")
PRICES = Prices((0.5, 1.0, 4.0), n_always=1)


class _Base(nn.Module):
    """What the net sees is the score of each learner at every weight of price."""

    def forward(self, scores_BN: Tensor) -> Tensor:
        return torch.cat([scores_BN, scores_BN.new_zeros(len(scores_BN), 2 * N_KNOTS)], dim=1)


def _ensemble(weight: float = 0.0) -> PricedEnsemble:
    ensemble = priced_ensemble(_Base(), PARAMS, PRICES, n_classes=3).eval()
    ensemble.price_weight = PriceWeight(weight, weight, 0.0)
    return ensemble


def _answers(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, 3, generator=generator).softmax(-1)


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0.0, [[1, 1, 1], [1, 1, 0], [1, 0, 0]]),
        (0.1, [[1, 1, 1], [1, 1, 0], [1, 0, 0]]),
        (0.2, [[1, 1, 0], [1, 1, 0], [1, 0, 0]]),  # 4 times 0.2 is above tanh(0.8)
        (0.5, [[1, 0, 0], [1, 1, 0], [1, 0, 0]]),
        (2.0, [[1, 0, 0], [1, 0, 0], [1, 0, 0]]),
    ],
)
def test_those_worth_their_price_are_asked(weight: float, expected: list[list[int]]) -> None:
    scores = torch.tensor([[0.4, 0.8], [3.0, -1.0], [-0.1, -0.1]])
    mask = _ensemble(weight).select(scores, _answers(3))
    assert mask.int().tolist() == expected


def test_who_cannot_answer_is_not_asked() -> None:
    probs = _answers(2)
    probs[0, 1] = probs[1, 0] = 0
    mask = _ensemble().select(torch.full((2, 2), 5.0), probs)
    assert mask.int().tolist() == [[1, 0, 1], [0, 1, 1]]


def test_the_lower_weight_is_that_of_a_share_by_the_hash() -> None:
    scores, probs = torch.rand(400, 2), _answers(400)
    ensemble = _ensemble(2.0)
    ensemble.price_weight = PriceWeight(high=2.0, low=0.0, share_of_low=0.25)
    asked = ensemble.select(scores, probs)[:, 1:].any(1)
    assert asked.tolist() == (uniform_hash(scores) < 0.25).tolist()
    assert 60 < int(asked.sum()) < 140


def test_the_hash_depends_on_the_sample_alone() -> None:
    images = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    whole = uniform_hash(images)
    assert ((whole >= 0) & (whole < 1)).all()
    assert len(whole.unique()) == 50
    torch.testing.assert_close(torch.cat([uniform_hash(i[None]) for i in images]), whole)


def test_a_vote_without_anyone_is_the_prior() -> None:
    vote = SubsetVote(2, 3)
    nn.init.normal_(vote.matrices_NFC)
    vote.prior_C.data = torch.tensor([0.0, 1.0, 2.0])
    vote.log_scales.data = torch.tensor([0.5, 0.0, -0.5])
    features = answer_features(_answers(4)[:, :2])
    nobody = vote(torch.zeros(4, 2), features)
    torch.testing.assert_close(nobody, (vote.prior_C * torch.tensor(0.5).exp()).expand(4, 3))


def test_the_vote_by_hand() -> None:
    vote = SubsetVote(2, 3)
    nn.init.normal_(vote.matrices_NFC)
    nn.init.normal_(vote.biases_NC)
    probs = torch.tensor([[[0.7, 0.2, 0.1], [0.0, 0.0, 0.0]]])
    row = torch.tensor([1.0, 0, 0, 0.7, 0.2, 0.1, *(torch.tensor([0.7, 0.2, 0.1]).log() / 3)])
    torch.testing.assert_close(answer_features(probs)[0, 0], row)
    assert not answer_features(probs)[0, 1].any()
    found = vote(torch.tensor([[1.0, 0.0]]), answer_features(probs))
    torch.testing.assert_close(found[0], row @ vote.matrices_NFC[0] + vote.biases_NC[0])


def test_random_subsets_have_those_always_asked_and_every_size() -> None:
    can = torch.ones(2000, 3, dtype=torch.bool)
    can[:10, 2] = False
    taken = random_subsets(can, 1, torch.Generator().manual_seed(0))
    assert taken[:, 0].all()
    assert not taken[:10, 2].any()
    assert (taken[10:].sum(1).unique(return_counts=True)[1] > 500).all()


def test_the_loss_moves_scores_towards_a_learner_that_is_right() -> None:
    """Of a single learner that is not always asked, too: norm 1 would leave it no gradient."""
    prices = Prices((0.0, 1.0), n_always=1)
    params = SelectionParams(1, 0.3, 1, 0.01, "exact", "learned")
    scores = torch.zeros(64, 1, requires_grad=True)

    class Net(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            return torch.cat([scores, torch.zeros(64, N_KNOTS)], dim=1)

    ensemble = priced_ensemble(Net(), params, prices, n_classes=2)
    with torch.no_grad():  # the second learner's most probable class counts
        ensemble.vote.matrices_NFC[1, :2] = 8 * torch.eye(2)
    labels = torch.arange(64) % 2
    wrong = torch.tensor([0.5, 0.5]).expand(64, 2)
    right = 0.1 + 0.8 * torch.eye(2)[labels]
    probs = torch.stack([wrong, right], dim=1)
    ensemble.loss(scores, probs, labels, torch.Generator().manual_seed(0)).backward()
    assert scores.grad is not None
    assert (scores.grad.sum() < 0).all()  # descent raises the scores
