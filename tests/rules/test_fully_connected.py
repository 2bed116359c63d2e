import numpy as np

from distcel.data.splits import Split
from distcel.rules.consensus import SuperLearner
from distcel.rules.fully_connected import FullyConnected
from tests.cached_splits import accuracy, made_split, split_of


def by_context(seed: int, n_samples: int = 400) -> Split:
    """The first learner says which of the two others is right: no weight a learner can do that."""
    random = np.random.default_rng(seed)
    labels, trusted = random.integers(0, 2, n_samples), random.integers(1, 3, n_samples)
    says = np.stack([trusted - 1, labels, labels], axis=1)
    says[np.arange(n_samples), 3 - trusted] = random.integers(0, 2, n_samples)
    return made_split(labels, 0.8 * np.eye(2)[says] + 0.1)


def test_it_weighs_learners_by_the_sample() -> None:
    train, test = by_context(0), by_context(1)
    assert accuracy(SuperLearner(), train, test) < 0.85
    assert accuracy(FullyConnected(0), train, test) > 0.95
    assert accuracy(FullyConnected(0, by_context(2)), train, test) > 0.95


def test_a_training_that_learns_nothing_ends_early_and_is_not_chosen_long() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60)
    noise = made_split(labels, random.dirichlet(np.ones(2), (60, 3)))
    probs = FullyConnected(0).fit(noise)(noise).numpy()
    own = probs[np.arange(60), labels]
    assert -np.log(own).mean() > 0.4  # thirty epochs would learn these by heart


def test_seeds_draw_other_weights() -> None:
    vote, other = (
        FullyConnected(seed, split_of(1), max_epochs=2).fit(split_of(0)) for seed in (0, 1)
    )
    assert not vote(split_of(2)).equal(other(split_of(2)))
