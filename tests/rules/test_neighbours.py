from collections.abc import Callable

import numpy as np
import pytest

from distcel.rules.consensus import PluralityVote
from distcel.rules.neighbours import KnoraEliminate, KnoraUnion, NearestNeighbours, pixels
from distcel.rules.rule import ConsensusRule
from tests.cached_splits import accuracy, split_of, two_regions


@pytest.mark.parametrize("rule", [NearestNeighbours(), KnoraUnion(pixels), KnoraEliminate(pixels)])
def test_with_fewer_samples_than_neighbours_all_are_near(rule: ConsensusRule) -> None:
    few, test = split_of(0, n_samples=3), split_of(1)
    np.testing.assert_allclose(rule.fit(few)(test).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("rule", [KnoraUnion(pixels), KnoraEliminate(pixels)])
def test_knora_selects_the_learner_that_is_competent_nearby(rule: ConsensusRule) -> None:
    split = two_regions()
    assert accuracy(PluralityVote(), split, split) == 0
    assert accuracy(rule, split, split) == 1


def test_knora_eliminate_leaves_out_the_farthest_until_a_learner_has_all_correct() -> None:
    fitted = two_regions()
    # Nearer to the dark images, but four of the seven nearest are bright: no learner has all.
    few = fitted.where(np.isin(np.arange(80), [0, 1, 2, 40, 41, 42, 43]))
    chosen = fitted.where(np.arange(80) == 3)
    np.testing.assert_array_equal(
        KnoraEliminate(pixels).fit(few)(chosen).argmax(-1).numpy(), chosen.labels_S
    )


@pytest.mark.parametrize("rule", [KnoraUnion, KnoraEliminate])
def test_knora_finds_its_neighbours_by_the_given_features(
    rule: Callable[..., ConsensusRule],
) -> None:
    split = two_regions()
    assert accuracy(rule(lambda given: 1 - pixels(given)), split, split) == 1
    blind = rule(lambda given: np.zeros((len(given.labels_S), 1), np.float32))
    assert accuracy(blind, split, split) < 1


def test_neighbours_are_found_by_their_pixels() -> None:
    split = split_of(0)
    assert accuracy(NearestNeighbours(1), split, split) == 1


def test_neighbours_and_knora_give_shares_of_the_votes() -> None:
    split = two_regions()
    chosen = split.where(np.arange(80) == 3)
    first = split.where(np.arange(80) < 5)  # of classes 0, 1, 0, 1, 0
    shares = NearestNeighbours(5).fit(first)(chosen)
    np.testing.assert_allclose(shares, [[3 / 5, 2 / 5]], atol=1e-6)
    two = split.where(np.isin(np.arange(80), [0, 3]))
    shares = NearestNeighbours(2).fit(two)(chosen)
    assert shares.argmax() == 1  # the nearer one's
    np.testing.assert_allclose(shares, [[1 / 2, 1 / 2]], atol=1e-6)
    # Of its five nearest learner 0 has all correct and the others none.
    np.testing.assert_allclose(KnoraUnion(pixels, 5).fit(split)(chosen), [[0, 1]], atol=1e-6)
