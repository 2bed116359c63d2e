"""What is left out of a pruned ensemble, and what that changes on test."""

from dataclasses import replace

import numpy as np

from distcel.core.ensemble import smart_ensemble
from distcel.evaluate.pruned import measure_pruned
from distcel.evaluate.selection import selected
from distcel.search.refit import ChosenEnsemble, SmartRule
from distcel.train.checkpoint import TrainedNetwork
from tests.cached_splits import made_split, made_splits
from tests.core.test_ensemble import PARAMS
from tests.rules.test_gating import task_of


def test_the_next_best_of_the_kept_learners_is_measured_where_another_one_is_missing() -> None:
    task = task_of(epochs=1)
    _, n_learners, n_classes = task.train.probs_SNC.shape
    labels = np.arange(60) % n_classes
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 16, 16), dtype=np.uint8)
    smart = smart_ensemble(task.plan.build(n_learners, seed=1), PARAMS, n_learners, n_classes)
    weights = {name: value.numpy() for name, value in smart.state_dict().items()}
    best = ChosenEnsemble(SmartRule(PARAMS), TrainedNetwork(weights, 0.0, ()))
    half = np.full((60, n_learners, n_classes), 0.5)
    whole = replace(task, splits=made_splits(task.train, made_split(labels, half, images)))
    asked_SN = selected(best.rule, best.network, whole, whole.valid)
    (most, *_) = np.argsort(-asked_SN.sum(0))
    is_most = asked_SN[:, most]
    assert 0 < is_most.sum() < 60  # PARAMS.k is 1

    # Valid has the samples that select this learner alone; on test it is wrong, all others right.
    right, test_probs = np.eye(n_classes)[labels], np.empty((60, n_learners, n_classes))
    test_probs[:] = right[:, None]
    test_probs[:, most] = 1 - right
    valid = whole.valid.where(is_most)
    task = replace(task, splits=made_splits(task.train, valid))
    test = made_split(labels, test_probs, images)
    assert measure_pruned(task, best, test, asked_SN) == {
        "kept": [most],
        "n_learners": n_learners,
        "k": 1,
        "n_changed": 60 - is_most.sum(),
        "n_test": 60,
        "accuracy": 0.0,  # of all learners it is 1 - is_most.mean()
    }
