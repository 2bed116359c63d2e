"""Properties of every consensus rule."""

from dataclasses import replace

import numpy as np
import pytest

from distcel.data.splits import Split
from distcel.rules.consensus import (
    BestOnValid,
    PluralityVote,
    RandomSelection,
    SuperLearner,
    UnweightedAverage,
    oracle_accuracy,
)
from distcel.rules.fully_connected import FullyConnected
from distcel.rules.neighbours import KnoraEliminate, KnoraUnion, NearestNeighbours, pixels
from distcel.rules.rule import ConsensusRule
from distcel.rules.static import (
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    PriorCorrectedPool,
    TopLearners,
)
from tests.cached_splits import accuracy, made_split, split_of

RULES: list[ConsensusRule] = [
    UnweightedAverage(),
    PluralityVote(),
    RandomSelection(k=3, seed=(0, 0)),
    SuperLearner(),
    TopLearners(k=1),
    TopLearners(k=3),
    DiscreteSuperLearner(),
    GreedySelection(),
    LogisticStacking(),
    BestOnValid((TopLearners(k=1), TopLearners(k=3)), split_of(2)),
    PriorCorrectedPool(np.full((6, 4), 0.25)),
    FullyConnected(0, split_of(2), max_epochs=15),
    NearestNeighbours(),
    KnoraUnion(pixels),
    KnoraEliminate(pixels),
]
# They predict the class of some learner; a mean may predict a class that no learner does.
CHOOSING: list[ConsensusRule] = [
    PluralityVote(),
    TopLearners(k=1),
    DiscreteSuperLearner(),
    KnoraUnion(pixels),
    KnoraEliminate(pixels),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
class TestEveryRule:
    def test_gives_class_probabilities(self, rule: ConsensusRule) -> None:
        probs = rule.fit(split_of(0))(split_of(1, 50))
        assert probs.shape == (50, 4)
        assert (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)

    def test_predicts_each_sample_independently(self, rule: ConsensusRule) -> None:
        vote, test = rule.fit(split_of(0)), split_of(1)
        chosen = np.zeros(200, bool)
        chosen[17:31] = True
        np.testing.assert_allclose(vote(test.where(chosen)), vote(test)[17:31], rtol=1e-6)

    def test_is_the_same_every_time(self, rule: ConsensusRule) -> None:
        first, second = (rule.fit(split_of(0))(split_of(1)) for _ in range(2))
        assert first.equal(second)

    def test_renamed_classes_give_renamed_predictions(self, rule: ConsensusRule) -> None:
        if isinstance(rule, FullyConnected):
            pytest.skip("its initial weights are random, another draw for each class")
        order = np.array([2, 0, 3, 1])

        def renamed(split: Split) -> Split:
            probs = np.ascontiguousarray(split.probs_SNC[..., order])
            return replace(split, labels_S=np.argsort(order)[split.labels_S], probs_SNC=probs)

        plain = rule.fit(split_of(0))(split_of(1))
        other = rule.fit(renamed(split_of(0)))(renamed(split_of(1)))
        np.testing.assert_allclose(other, plain[:, order], atol=2e-3)

    def test_unanimous_learners_are_followed(self, rule: ConsensusRule) -> None:
        labels = np.arange(40) % 4
        probs = np.full((40, 6, 4), 0.1, np.float32)
        probs[np.arange(40), :, labels] = 0.7
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 2, 2), dtype=np.uint8)
        sure = made_split(labels, probs, images)
        if isinstance(rule, NearestNeighbours):  # which uses no learners
            assert accuracy(rule, sure, sure) < 1.0
        else:
            assert accuracy(rule, sure, sure) == 1.0


@pytest.mark.parametrize("rule", CHOOSING, ids=lambda rule: type(rule).__name__)
def test_no_rule_that_chooses_among_the_learners_predictions_beats_the_oracle(
    rule: ConsensusRule,
) -> None:
    train, test = split_of(0, n_learners=3), split_of(1, n_learners=3)
    assert accuracy(rule, train, test) <= oracle_accuracy(test) < 1
    answers = rule.fit(train)(test).argmax(-1).numpy()
    assert (answers[:, None] == test.probs_SNC.argmax(-1)).any(1).all()
