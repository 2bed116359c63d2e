"""The null model of a selection: asking as often, but at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from distcel.core.ensemble import SmartEnsemble, SummedVote
from distcel.core.knapsack import KnapsackLayer
from distcel.data.splits import Split
from distcel.evaluate.selection import shuffled_probs
from distcel.rules.consensus import RANDOM_DRAWS
from distcel.rules.rule import correct
from tests.cached_splits import made_split

ENSEMBLE = SmartEnsemble(nn.Identity(), KnapsackLayer(1, 0.1, 1, "exact"), SummedVote())
LABELS = np.arange(600) % 2


def _split() -> Split:
    """The first learner is right on the even samples alone, the second on the odd ones."""
    probs = np.full((600, 2, 2), 0.1)
    probs[:, 0, 0], probs[:, 1, 1] = 0.9, 0.9
    return made_split(LABELS, probs / probs.sum(-1, keepdims=True))


def test_a_selection_that_knows_the_sample_is_worth_nothing_shuffled() -> None:
    split, mask = _split(), np.eye(2, dtype=np.bool_)[LABELS]
    own = ENSEMBLE.combine(torch.tensor(mask).float(), torch.tensor(split.probs_SNC))
    assert correct(own.numpy()[None], LABELS).all()
    shuffled = correct(shuffled_probs(ENSEMBLE, split, mask, seed=0), LABELS)
    assert shuffled.shape == (RANDOM_DRAWS, 600)
    assert shuffled.mean() == pytest.approx(0.5, abs=0.03)
    assert (shuffled[0] != shuffled[1]).any()


def test_a_selection_that_is_the_same_for_all_samples_is_not_changed() -> None:
    split, mask = _split(), np.tile([True, False], (600, 1))
    draws = shuffled_probs(ENSEMBLE, split, mask, seed=0)
    np.testing.assert_array_equal(draws.argmax(-1), 0)


def test_who_did_not_answer_is_left_out() -> None:
    split = _split()
    probs = split.probs_SNC.copy()
    probs[:, 0] = 0
    silent = made_split(LABELS, probs)
    learned = SmartEnsemble(nn.Identity(), ENSEMBLE.layer, _Counted())
    draws = shuffled_probs(learned, silent, np.ones((600, 2), np.bool_), seed=0)
    np.testing.assert_allclose(draws[..., 0], 1 / (1 + np.exp(-1)))


class _Counted(SummedVote):
    """The first logit is the number of learners that vote."""

    def forward(self, mask_BN: torch.Tensor, probs_BNC: torch.Tensor) -> torch.Tensor:
        return torch.stack([mask_BN.sum(-1), torch.zeros(len(mask_BN))], dim=-1)
