from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from distcel.core.ensemble import class_probabilities
from distcel.data.splits import Split
from distcel.rules.consensus import (
    SL_PENALTIES,
    BestOnValid,
    PluralityVote,
    RandomSelection,
    SuperLearner,
    UnweightedAverage,
    oracle_accuracy,
    super_learner,
)
from distcel.rules.static import GreedySelection, TopLearners
from tests.cached_splits import accuracy, made_split, split_of


def test_unweighted_average_and_plurality_by_hand() -> None:
    probs = np.array([[[0.6, 0.4, 0.0], [0.55, 0.45, 0.0], [0.0, 1.0, 0.0]]], np.float32)
    split = made_split(np.array([1]), probs)
    average = UnweightedAverage().fit(split)(split)
    np.testing.assert_allclose(average, [[1.15 / 3, 1.85 / 3, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(PluralityVote().fit(split)(split), [[2 / 3, 1 / 3, 0]], atol=1e-6)


def test_a_tied_vote_goes_to_the_higher_mean() -> None:
    probs = np.array([[[0.6, 0.4], [0.1, 0.9]]], np.float32)
    split = made_split(np.array([1]), probs)
    shares = PluralityVote().fit(split)(split)
    assert shares.argmax() == 1
    np.testing.assert_allclose(shares, [[0.5, 0.5]], atol=1e-6)


def test_close_logits_stay_apart_as_probabilities() -> None:
    logits = torch.tensor([[0.1, np.nextafter(np.float32(0.1), np.float32(1)), 0.0]])
    assert class_probabilities(logits).argmax() == 1


def test_a_random_selection_of_all_is_the_unweighted_average() -> None:
    train, test = split_of(0), split_of(1)
    everyone = RandomSelection(6, seed=(0, 3)).fit(train)(test)
    np.testing.assert_allclose(everyone, UnweightedAverage().fit(train)(test), rtol=1e-5)


def test_random_selections_differ_by_draw_and_by_run() -> None:
    train, test = split_of(0), split_of(1)
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    draws = [RandomSelection(2, pair).fit(train)(test) for pair in pairs]
    for one, other in combinations(draws, 2):  # no draw of a run is another's
        assert not one.equal(other)
    assert draws[0].equal(RandomSelection(2, (0, 0)).fit(train)(test))


def test_the_super_learner_finds_the_one_learner_that_is_correct() -> None:
    def noise_but_one(seed: int) -> Split:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 4, 400)
        probs = random.dirichlet(np.ones(4), (400, 6)).astype(np.float32)
        probs[:, 4] = 0.9 * np.eye(4)[labels] + 0.025
        return made_split(labels, probs)

    train, test = noise_but_one(0), noise_but_one(1)
    assert accuracy(UnweightedAverage(), train, test) < 0.95
    assert accuracy(SuperLearner(), train, test) > 0.99


def test_the_super_learners_penalty_pulls_it_towards_ua_where_its_weights_are_useless() -> None:
    # The learners are correct on the samples that the weights are fitted on, and on no others.
    train, valid = split_of(0, 60), split_of(1)
    known = train.probs_SNC.copy()
    known[:, 5] = 0.9 * np.eye(4)[train.labels_S] + 0.025  # the learner that is worst on valid
    fitted = replace(train, probs_SNC=known.astype(np.float32))
    assert accuracy(SuperLearner(), fitted, valid) < accuracy(UnweightedAverage(), fitted, valid)
    much = SuperLearner(penalty=1e6).fit(fitted)(valid)
    logits = torch.from_numpy(valid.probs_SNC.sum(1))
    np.testing.assert_allclose(much, class_probabilities(logits), rtol=1e-3)
    rule, vote = super_learner(valid).choose(fitted)
    assert rule == SuperLearner(penalty=max(SL_PENALTIES))
    assert (vote(valid).argmax(-1).numpy() == valid.labels_S).mean() > accuracy(
        SuperLearner(), fitted, valid
    )


def test_the_oracle_needs_one_correct_learner() -> None:
    probs = np.array([[[0.6, 0.4], [0.1, 0.9]], [[0.6, 0.4], [0.7, 0.3]]], np.float32)
    split = made_split(np.array([1, 1]), probs)
    assert oracle_accuracy(split) == 0.5


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_super_learner_minimises_its_formula(penalty: float) -> None:
    fitted, test = split_of(0, 60), split_of(1)
    rows = np.arange(len(fitted.labels_S))

    def loss(weights: np.ndarray) -> float:
        logits = np.einsum("snc,n->sc", fitted.probs_SNC.astype(float), weights)
        own = logits[rows, fitted.labels_S]
        cross_entropy = (np.log(np.exp(logits).sum(1)) - own).mean()
        return float(cross_entropy + penalty / 2 * ((weights - 1) ** 2).sum())

    weights = minimize(loss, np.ones(6)).x
    logits = torch.from_numpy(np.einsum("snc,n->sc", test.probs_SNC, weights))
    expected = class_probabilities(logits)
    found = SuperLearner(penalty).fit(fitted)(test)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))


def test_the_best_on_valid_is_fitted_on_train_and_the_earliest_of_equals() -> None:
    train, valid, test = split_of(0), split_of(1), split_of(2)
    candidates = (TopLearners(1), GreedySelection(), TopLearners(6), UnweightedAverage())
    on_valid = [accuracy(rule, train, valid) for rule in candidates]
    assert max(on_valid) == on_valid[1] > on_valid[2] > on_valid[0]
    chosen = BestOnValid(candidates, valid).fit(train)(test)
    assert chosen.equal(GreedySelection().fit(train)(test))
    equals = BestOnValid(candidates[2:], valid).fit(train)(test)
    assert equals.equal(TopLearners(6).fit(train)(test))
