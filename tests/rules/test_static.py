import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from distcel.data.splits import Split
from distcel.rules.consensus import UnweightedAverage, oracle_accuracy
from distcel.rules.static import (
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    PriorCorrectedPool,
    TopLearners,
)
from tests.cached_splits import accuracy, made_split, split_of


def test_the_best_learner_is_the_most_accurate_or_the_likeliest() -> None:
    # The first has three of four correct, but is confident where it errs; the second has two.
    labels = np.array([0, 0, 1, 1])
    own = np.array([[0.6, 0.6], [0.6, 0.6], [0.6, 0.49], [0.001, 0.49]])
    probs = np.empty((4, 2, 2), np.float32)
    rows = np.arange(4)
    for learner in (0, 1):
        probs[rows, learner, labels] = own[:, learner]
        probs[rows, learner, 1 - labels] = 1 - own[:, learner]
    split = made_split(labels, probs)
    np.testing.assert_allclose(TopLearners(1).fit(split)(split), probs[:, 0])
    np.testing.assert_allclose(DiscreteSuperLearner().fit(split)(split), probs[:, 1])


def test_greedy_selection_leaves_out_what_harms() -> None:
    train, test = split_of(0, 2000), split_of(1, 2000)
    greedy = accuracy(GreedySelection(), train, test)
    assert greedy > accuracy(UnweightedAverage(), train, test)
    assert greedy > accuracy(TopLearners(1), train, test)


def greedy_by_definition(split: Split, n_rounds: int) -> list[int]:
    """The learners of the earliest most accurate of the rounds, repetitions and all."""
    chosen: list[int] = []
    best: tuple[float, list[int]] = -1.0, []

    def score(learner: int) -> tuple[float, float]:
        mean = split.probs_SNC[:, [*chosen, learner]].astype(float).mean(1)
        own = mean[np.arange(len(mean)), split.labels_S]
        return float((mean.argmax(1) == split.labels_S).mean()), float(np.log(own).mean())

    for _ in range(n_rounds):
        added = max(range(split.probs_SNC.shape[1]), key=score)
        accuracy, _ = score(added)
        chosen.append(added)
        if accuracy > best[0]:
            best = accuracy, [*chosen]
    return best[1]


def test_greedy_selection_is_caruanas() -> None:
    lengths = set()
    for seed in range(6):
        fitted, test = split_of(seed, 60), split_of(99)
        members = greedy_by_definition(fitted, 50)
        expected = test.probs_SNC[:, members].mean(1)
        np.testing.assert_allclose(GreedySelection().fit(fitted)(test), expected, rtol=1e-5)
        lengths.add((len(members) > 3, len(set(members)) < len(members), len(members) < 50))
    assert (True, True, True) in lengths  # the examples distinguish all of it


def test_the_top_learners_are_the_most_accurate_ones() -> None:
    fitted, test = split_of(0), split_of(1)
    accuracies = (fitted.probs_SNC.argmax(-1) == fitted.labels_S[:, None]).mean(0)
    first, second, *_ = np.argsort(-accuracies)
    expected = test.probs_SNC[:, [first, second]].mean(1)
    np.testing.assert_allclose(TopLearners(2).fit(fitted)(test), expected, rtol=1e-6)


@pytest.mark.parametrize("inverse_penalty", [0.01, 0.3])
def test_stacking_is_a_regression_on_standardised_logarithms(inverse_penalty: float) -> None:
    fitted, test = split_of(0), split_of(1)

    def logarithms(split: Split) -> np.ndarray:
        return np.log(np.maximum(split.probs_SNC, 1e-4)).reshape(len(split.labels_S), -1)

    mean, deviation = logarithms(fitted).mean(0), logarithms(fitted).std(0)
    model = LogisticRegression(C=inverse_penalty, max_iter=3000, tol=1e-6)
    model.fit((logarithms(fitted) - mean) / deviation, fitted.labels_S)
    expected = model.predict_proba((logarithms(test) - mean) / deviation)
    found = LogisticStacking(inverse_penalty).fit(fitted)(test)
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_stacking_uses_a_learner_that_is_always_wrong() -> None:
    labels = np.arange(200) % 4
    probs = np.full((200, 1, 4), 0.1, np.float32)
    probs[np.arange(200), 0, (labels + 1) % 4] = 0.7
    split = made_split(labels, probs)
    assert oracle_accuracy(split) == 0
    assert accuracy(LogisticStacking(), split, split) == 1


def test_stacking_on_a_split_without_one_class() -> None:
    train = split_of(0)
    vote = LogisticStacking().fit(train.where(train.labels_S != 2))
    assert (vote(split_of(1))[:, 2] == 0).all()


def test_the_prior_corrected_pool_undoes_the_learners_priors_by_bayes_rule() -> None:
    random = np.random.default_rng(0)
    likelihood_SC, priors_NC = random.dirichlet(np.ones(3), 50), random.dirichlet(np.ones(3), 4)
    probs_SNC = likelihood_SC[:, None] * priors_NC
    probs_SNC = (probs_SNC / probs_SNC.sum(-1, keepdims=True)).clip(1e-3)
    labels = np.repeat(np.arange(3), [25, 15, 10])
    split = made_split(labels, probs_SNC)
    found = PriorCorrectedPool(priors_NC).fit(split)(split).numpy()
    by_learner_SNC = probs_SNC / priors_NC * [0.5, 0.3, 0.2]
    product_SC = np.exp(np.log(by_learner_SNC).mean(1))
    np.testing.assert_allclose(found, product_SC / product_SC.sum(1, keepdims=True), rtol=1e-5)
    exact_SC = likelihood_SC * [0.5, 0.3, 0.2]
    inside_S = (probs_SNC > 1e-3).all((1, 2))
    assert inside_S.sum() > 30
    exact_SC = exact_SC / exact_SC.sum(1, keepdims=True)
    np.testing.assert_allclose(found[inside_S], exact_SC[inside_S], rtol=1e-4)
