import numpy as np
import torch

from distcel.data.splits import Split
from distcel.rules.consensus import SuperLearner
from distcel.rules.fully_connected import FullyConnected
from tests.cached_splits import accuracy, made_split, split_of


def by_context(seed: int, n_samples: int = 200) -> Split:
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


def noise() -> Split:
    """Outputs that say nothing of the labels, and are enough to learn the labels by heart."""
    random = np.random.default_rng(0)
    return made_split(random.integers(0, 2, 60), random.dirichlet(np.ones(2), (60, 40)))


def test_the_number_of_epochs_is_that_with_the_least_loss_on_held_out_samples() -> None:
    own = np.arange(60), noise().labels_S
    probs = FullyConnected(0).fit(noise())(noise()).numpy()[own]
    by_heart = FullyConnected(0, noise()).fit(noise())(noise()).numpy()[own]
    assert -np.log(by_heart).mean() < 0.1
    assert -np.log(probs).mean() > 0.4


def test_a_training_ends_when_its_loss_is_no_longer_lowered() -> None:
    rows, labels = (
        torch.randn(60, 80, generator=torch.Generator().manual_seed(0)),
        torch.arange(60) % 2,
    )
    rule = FullyConnected(0)
    losses = rule._losses((rows, labels), (-rows, labels), 2)
    for by_epoch in losses:
        n_epochs = np.isfinite(by_epoch).sum()
        assert n_epochs - 1 - by_epoch.argmin() == 5
        assert n_epochs < rule.max_epochs


def test_seeds_draw_other_weights() -> None:
    vote, other = (
        FullyConnected(seed, split_of(1), max_epochs=2).fit(split_of(0)) for seed in (0, 1)
    )
    assert not vote(split_of(2)).equal(other(split_of(2)))
