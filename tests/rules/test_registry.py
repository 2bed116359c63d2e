import numpy as np

from distcel.rules.consensus import SuperLearner
from distcel.rules.registry import CHOSEN_ON_VALID, OWN_K, rules, said_by_rules
from distcel.rules.static import LogisticStacking, TopLearners
from distcel.train.cache import CachedSplit
from tests.cached_splits import accuracy, split_of


def told_by(split: CachedSplit, learner: int) -> CachedSplit:
    """The split, with one learner that knows every class."""
    probs = split.probs_SNC.copy()
    probs[:, learner] = 0.99 * np.eye(4)[split.labels_S] + 0.0025
    return CachedSplit(split.images_SCHW, split.labels_S, probs)


def test_what_is_chosen_on_valid_is_said() -> None:
    train, valid, test = (split_of(i) for i in range(3))
    said, chosen = said_by_rules(train, valid, test, k=1, seed=0, selector_split="train")
    assert set(chosen) == set(CHOSEN_ON_VALID)
    same = TopLearners(int(chosen[OWN_K])).fit(valid)(test)
    np.testing.assert_allclose(said[OWN_K][0], same)
    accuracies = [accuracy(TopLearners(k), valid, valid) for k in range(1, 7)]
    assert chosen[OWN_K] == 1 + int(np.argmax(accuracies)) > 1
    stacking = LogisticStacking(inverse_penalty=chosen["logistic stacking"]).fit(train)(test)
    np.testing.assert_allclose(said["logistic stacking"][0], stacking)
    super_learner = SuperLearner(penalty=chosen["SL"]).fit(train)(test)
    np.testing.assert_allclose(said["SL"][0], super_learner)


def test_neighbours_are_no_rival_on_a_holdout() -> None:
    valid = split_of(1)
    kept, held_out = (rules(1, 0, valid, split) for split in ("crossfit", "holdout"))
    assert set(kept) - set(held_out) == {"nearest neighbours"}


def test_learners_are_picked_on_valid_and_weights_are_fitted_on_train() -> None:
    train, valid, test = (told_by(split_of(i), learner) for i, learner in enumerate((4, 5, 4)))
    said, _ = said_by_rules(train, valid, test, k=1, seed=0, selector_split="train")
    sixth = test.probs_SNC[:, 5].argmax(-1)
    for rule in ("best learner", "static top-k", "discrete SL", "greedy selection"):
        np.testing.assert_array_equal(said[rule][0].argmax(-1), sixth)
    # Stacking believes the fifth, which tells everything about train and test.
    assert (said["logistic stacking"][0].argmax(-1) == test.labels_S).mean() > 0.95
