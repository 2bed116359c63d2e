from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from distcel.consensus import (
    SL_PENALTIES,
    BestOnValid,
    ConsensusRule,
    PluralityVote,
    RandomSelection,
    SuperLearner,
    UnweightedAverage,
    class_probabilities,
    consensus_rules,
    oracle_accuracy,
)
from distcel.neighbour_rules import KnoraEliminate, KnoraUnion, NearestNeighbours
from distcel.predictions import CachedSplit
from distcel.static_rules import (
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    TopLearners,
)


def split_of(
    seed: int, n_samples: int = 200, n_learners: int = 6, n_classes: int = 4
) -> CachedSplit:
    """Learners that lean towards the right class, the later ones less."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n_samples)
    strength = np.linspace(2.0, 0.0, n_learners)[None, :, None]
    logits = random.normal(size=(n_samples, n_learners, n_classes))
    logits = logits + strength * np.eye(n_classes)[labels][:, None]
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    images = random.integers(0, 256, (n_samples, 1, 2, 2), dtype=np.uint8)
    return CachedSplit(images, labels, probs.astype(np.float32))


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
    NearestNeighbours(),
    KnoraUnion(),
    KnoraEliminate(),
]
# Their answer is some learner's own; a mean may answer what no learner does.
CHOOSING: list[ConsensusRule] = [
    PluralityVote(),
    TopLearners(k=1),
    DiscreteSuperLearner(),
    KnoraUnion(),
    KnoraEliminate(),
]


@pytest.mark.parametrize("rule", [NearestNeighbours(), KnoraUnion(), KnoraEliminate()])
def test_with_fewer_samples_than_neighbours_all_are_near(rule: ConsensusRule) -> None:
    few, test = split_of(0, n_samples=3), split_of(1)
    np.testing.assert_allclose(rule.fit(few)(test).sum(1), 1, rtol=1e-5)


def accuracy(rule: ConsensusRule, train: CachedSplit, test: CachedSplit) -> float:
    return float((rule.fit(train)(test).argmax(-1).numpy() == test.labels_S).mean())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
class TestEveryRule:
    def test_gives_class_probabilities(self, rule: ConsensusRule) -> None:
        probs = rule.fit(split_of(0))(split_of(1, 50))
        assert probs.shape == (50, 4)
        assert (probs >= 0).all()
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)

    def test_judges_each_sample_by_itself(self, rule: ConsensusRule) -> None:
        vote, test = rule.fit(split_of(0)), split_of(1)
        chosen = np.zeros(200, bool)
        chosen[17:31] = True
        np.testing.assert_allclose(vote(test.where(chosen)), vote(test)[17:31], rtol=1e-6)

    def test_is_the_same_every_time(self, rule: ConsensusRule) -> None:
        first, second = (rule.fit(split_of(0))(split_of(1)) for _ in range(2))
        assert first.equal(second)

    def test_renamed_classes_give_renamed_answers(self, rule: ConsensusRule) -> None:
        order = np.array([2, 0, 3, 1])

        def renamed(split: CachedSplit) -> CachedSplit:
            probs = np.ascontiguousarray(split.probs_SNC[..., order])
            return CachedSplit(split.images_SCHW, np.argsort(order)[split.labels_S], probs)

        plain = rule.fit(split_of(0))(split_of(1))
        other = rule.fit(renamed(split_of(0)))(renamed(split_of(1)))
        np.testing.assert_allclose(other, plain[:, order], atol=2e-3)

    def test_unanimous_learners_are_followed(self, rule: ConsensusRule) -> None:
        labels = np.arange(40) % 4
        probs = np.full((40, 6, 4), 0.1, np.float32)
        probs[np.arange(40), :, labels] = 0.7
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 2, 2), dtype=np.uint8)
        sure = CachedSplit(images, labels, probs)
        if isinstance(rule, NearestNeighbours):  # which hears no learner
            assert accuracy(rule, sure, sure) < 1.0
        else:
            assert accuracy(rule, sure, sure) == 1.0


@pytest.mark.parametrize("rule", CHOOSING, ids=lambda rule: type(rule).__name__)
def test_no_rule_that_chooses_among_the_learners_answers_beats_the_oracle(
    rule: ConsensusRule,
) -> None:
    train, test = split_of(0, n_learners=3), split_of(1, n_learners=3)
    assert accuracy(rule, train, test) <= oracle_accuracy(test) < 1
    answers = rule.fit(train)(test).argmax(-1).numpy()
    assert (answers[:, None] == test.probs_SNC.argmax(-1)).any(1).all()


def test_unweighted_average_and_plurality_by_hand() -> None:
    probs = np.array([[[0.6, 0.4, 0.0], [0.55, 0.45, 0.0], [0.0, 1.0, 0.0]]], np.float32)
    split = CachedSplit(np.zeros((1, 1, 2, 2), np.uint8), np.array([1]), probs)
    average = UnweightedAverage().fit(split)(split)
    np.testing.assert_allclose(average, [[1.15 / 3, 1.85 / 3, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(PluralityVote().fit(split)(split), [[2 / 3, 1 / 3, 0]], atol=1e-6)


def test_a_tied_vote_goes_to_the_higher_mean() -> None:
    probs = np.array([[[0.6, 0.4], [0.1, 0.9]]], np.float32)
    split = CachedSplit(np.zeros((1, 1, 2, 2), np.uint8), np.array([1]), probs)
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


def test_the_super_learner_finds_the_learner_worth_listening_to() -> None:
    def noise_but_one(seed: int) -> CachedSplit:
        random = np.random.default_rng(seed)
        labels = random.integers(0, 4, 400)
        probs = random.dirichlet(np.ones(4), (400, 6)).astype(np.float32)
        probs[:, 4] = 0.9 * np.eye(4)[labels] + 0.025
        return CachedSplit(np.zeros((400, 1, 2, 2), np.uint8), labels, probs)

    train, test = noise_but_one(0), noise_but_one(1)
    assert accuracy(UnweightedAverage(), train, test) < 0.95
    assert accuracy(SuperLearner(), train, test) > 0.99


def test_the_super_learners_penalty_draws_it_towards_ua_where_its_weights_are_of_no_use() -> None:
    # The learners know the samples that the weights are fitted on, and no others.
    train, valid = split_of(0, 60), split_of(1)
    known = train.probs_SNC.copy()
    known[:, 5] = 0.9 * np.eye(4)[train.labels_S] + 0.025  # the learner that is worst on valid
    fitted = CachedSplit(train.images_SCHW, train.labels_S, known.astype(np.float32))
    assert accuracy(SuperLearner(), fitted, valid) < accuracy(UnweightedAverage(), fitted, valid)
    much = SuperLearner(penalty=1e6).fit(fitted)(valid)
    logits = torch.from_numpy(valid.probs_SNC.sum(1))
    np.testing.assert_allclose(much, class_probabilities(logits), rtol=1e-3)
    (chosen,) = consensus_rules(1, 0, valid)["super_learner"]
    assert isinstance(chosen, BestOnValid)
    rule, vote = chosen.choose(fitted)
    assert rule == SuperLearner(penalty=max(SL_PENALTIES))
    assert (vote(valid).argmax(-1).numpy() == valid.labels_S).mean() > accuracy(
        SuperLearner(), fitted, valid
    )


def test_the_oracle_needs_one_learner_to_be_right() -> None:
    probs = np.array([[[0.6, 0.4], [0.1, 0.9]], [[0.6, 0.4], [0.7, 0.3]]], np.float32)
    split = CachedSplit(np.zeros((2, 1, 2, 2), np.uint8), np.array([1, 1]), probs)
    assert oracle_accuracy(split) == 0.5


def test_the_best_learner_is_the_most_accurate_or_the_likeliest() -> None:
    # The first has three of four right, but with little doubt where it errs; the second has two.
    labels = np.array([0, 0, 1, 1])
    own = np.array([[0.6, 0.6], [0.6, 0.6], [0.6, 0.49], [0.001, 0.49]])
    probs = np.empty((4, 2, 2), np.float32)
    rows = np.arange(4)
    for learner in (0, 1):
        probs[rows, learner, labels] = own[:, learner]
        probs[rows, learner, 1 - labels] = 1 - own[:, learner]
    split = CachedSplit(np.zeros((4, 1, 2, 2), np.uint8), labels, probs)
    np.testing.assert_allclose(TopLearners(1).fit(split)(split), probs[:, 0])
    np.testing.assert_allclose(DiscreteSuperLearner().fit(split)(split), probs[:, 1])


def test_greedy_selection_leaves_out_what_harms() -> None:
    train, test = split_of(0, 2000), split_of(1, 2000)
    greedy = accuracy(GreedySelection(), train, test)
    assert greedy > accuracy(UnweightedAverage(), train, test)
    assert greedy > accuracy(TopLearners(1), train, test)


def greedy_by_definition(split: CachedSplit, n_rounds: int) -> list[int]:
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
    assert (True, True, True) in lengths  # the examples tell all of it apart


def test_the_top_learners_are_the_most_accurate_ones() -> None:
    fitted, test = split_of(0), split_of(1)
    accuracies = (fitted.probs_SNC.argmax(-1) == fitted.labels_S[:, None]).mean(0)
    first, second, *_ = np.argsort(-accuracies)
    expected = test.probs_SNC[:, [first, second]].mean(1)
    np.testing.assert_allclose(TopLearners(2).fit(fitted)(test), expected, rtol=1e-6)


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


@pytest.mark.parametrize("inverse_penalty", [0.01, 0.3])
def test_stacking_is_a_regression_on_standardised_logarithms(inverse_penalty: float) -> None:
    fitted, test = split_of(0), split_of(1)

    def logarithms(split: CachedSplit) -> np.ndarray:
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
    split = CachedSplit(np.zeros((200, 1, 2, 2), np.uint8), labels, probs)
    assert oracle_accuracy(split) == 0
    assert accuracy(LogisticStacking(), split, split) == 1


def test_the_best_on_valid_is_fitted_on_train_and_the_earliest_of_equals() -> None:
    train, valid, test = split_of(0), split_of(1), split_of(2)
    candidates = (TopLearners(1), GreedySelection(), TopLearners(6), UnweightedAverage())
    on_valid = [accuracy(rule, train, valid) for rule in candidates]
    assert max(on_valid) == on_valid[1] > on_valid[2] > on_valid[0]
    chosen = BestOnValid(candidates, valid).fit(train)(test)
    assert chosen.equal(GreedySelection().fit(train)(test))
    equals = BestOnValid(candidates[2:], valid).fit(train)(test)
    assert equals.equal(TopLearners(6).fit(train)(test))


def test_stacking_on_a_split_without_one_class() -> None:
    train = split_of(0)
    vote = LogisticStacking().fit(train.where(train.labels_S != 2))
    assert (vote(split_of(1))[:, 2] == 0).all()


def two_regions() -> CachedSplit:
    """Dark images are learner 0's, bright ones learner 1's; the other one is wrong there."""
    labels = np.arange(80) % 2
    bright = np.arange(80) >= 40
    images = np.where(bright, 250, 5).astype(np.uint8)[:, None, None, None]
    images = images + (np.arange(80) % 5).astype(np.uint8)[:, None, None, None]
    probs = np.empty((80, 3, 2), np.float32)
    for learner, right in enumerate((~bright, bright, np.zeros(80, bool))):
        says = np.where(right, labels, 1 - labels)
        probs[np.arange(80), learner, says] = 0.9
        probs[np.arange(80), learner, 1 - says] = 0.1
    return CachedSplit(np.broadcast_to(images, (80, 1, 2, 2)).copy(), labels, probs)


@pytest.mark.parametrize("rule", [KnoraUnion(), KnoraEliminate()])
def test_knora_asks_the_learner_that_is_competent_nearby(rule: ConsensusRule) -> None:
    split = two_regions()
    assert accuracy(PluralityVote(), split, split) == 0
    assert accuracy(rule, split, split) == 1


def test_knora_eliminate_leaves_out_the_farthest_until_someone_has_all_right() -> None:
    fitted = two_regions()
    # Nearer to the dark images, yet of the seven nearest four are bright: nobody has all right.
    few = fitted.where(np.isin(np.arange(80), [0, 1, 2, 40, 41, 42, 43]))
    asked = fitted.where(np.arange(80) == 3)
    np.testing.assert_array_equal(
        KnoraEliminate().fit(few)(asked).argmax(-1).numpy(), asked.labels_S
    )


def test_neighbours_are_found_by_their_pixels() -> None:
    split = split_of(0)
    assert accuracy(NearestNeighbours(1), split, split) == 1


def test_neighbours_and_knora_give_shares_of_the_votes() -> None:
    split = two_regions()
    asked = split.where(np.arange(80) == 3)
    first = split.where(np.arange(80) < 5)  # of classes 0, 1, 0, 1, 0
    shares = NearestNeighbours(5).fit(first)(asked)
    np.testing.assert_allclose(shares, [[3 / 5, 2 / 5]], atol=1e-6)
    two = split.where(np.isin(np.arange(80), [0, 3]))
    shares = NearestNeighbours(2).fit(two)(asked)
    assert shares.argmax() == 1  # the nearer one's
    np.testing.assert_allclose(shares, [[1 / 2, 1 / 2]], atol=1e-6)
    # Of its five nearest learner 0 has all right and the others none.
    np.testing.assert_allclose(KnoraUnion(5).fit(split)(asked), [[0, 1]], atol=1e-6)
