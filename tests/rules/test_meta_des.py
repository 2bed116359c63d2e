from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("deslib", reason="the extra [deslib] is not installed")

from distcel.data.splits import Split
from distcel.rules.consensus import PluralityVote, UnweightedAverage
from distcel.rules.meta_des import MetaDES
from distcel.rules.neighbours import pixels
from distcel.rules.rule import ConsensusRule
from tests.cached_splits import accuracy, made_split, split_of, two_regions

RULE: ConsensusRule = MetaDES(pixels)


def test_it_gives_class_probabilities_for_each_sample_by_itself() -> None:
    vote, test = RULE.fit(split_of(0)), split_of(1)
    probs = vote(test).numpy()
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)
    chosen = np.zeros(200, bool)
    chosen[17:31] = True
    np.testing.assert_allclose(vote(test.where(chosen)), probs[17:31], rtol=1e-6)


def test_it_selects_the_learner_that_is_competent_nearby() -> None:
    split = two_regions()
    assert accuracy(PluralityVote(), split, split) == 0
    assert accuracy(RULE, split, split) == 1


def test_it_leaves_out_incompetent_learners() -> None:
    def noise_but_one(seed: int) -> Split:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 4, 400)
        probs = random.dirichlet(np.ones(4), (400, 6)).astype(np.float32)
        probs[:, 4] = 0.9 * np.eye(4)[labels] + 0.025
        return made_split(labels, probs)

    train, test = noise_but_one(0), noise_but_one(1)
    assert accuracy(UnweightedAverage(), train, test) < 0.95
    assert accuracy(RULE, train, test) > 0.97


def test_the_nearest_are_found_by_pixels_and_not_by_the_learners_outputs() -> None:
    split = two_regions()
    vote = RULE.fit(split)
    bright = np.full_like(split.images_SCHW, 250)
    moved = replace(split, images_SCHW=bright)
    assert not vote(moved).equal(vote(split))


def test_two_classes_and_three_alike() -> None:
    for n_classes in (2, 3):
        train, test = split_of(0, n_classes=n_classes), split_of(1, n_classes=n_classes)
        assert accuracy(RULE, train, test) > 1.5 / n_classes
