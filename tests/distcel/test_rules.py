import numpy as np

from distcel.predictions import CachedSplit
from distcel.rules import said_by_rules
from tests.distcel.test_consensus import split_of


def told_by(split: CachedSplit, learner: int) -> CachedSplit:
    """The split, with one learner that knows every class."""
    probs = split.probs_SNC.copy()
    probs[:, learner] = 0.99 * np.eye(4)[split.labels_S] + 0.0025
    return CachedSplit(split.images_SCHW, split.labels_S, probs)


def test_learners_are_picked_on_valid_and_weights_are_fitted_on_train() -> None:
    train, valid, test = (told_by(split_of(i), learner) for i, learner in enumerate((4, 5, 4)))
    said = said_by_rules(train, valid, test, k=1, seed=0)
    sixth = test.probs_SNC[:, 5].argmax(-1)
    for rule in ("best learner", "static top-k", "discrete SL", "greedy selection"):
        np.testing.assert_array_equal(said[rule][0].argmax(-1), sixth)
    # Stacking believes the fifth, which tells everything about train and test.
    assert (said["logistic stacking"][0].argmax(-1) == test.labels_S).mean() > 0.95
