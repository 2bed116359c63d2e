from dataclasses import replace

import numpy as np
import pytest

from distcel.rules.from_classifier import FromClassifier, _start_from, from_classifier
from distcel.rules.single_network import SingleNetwork
from distcel.train.checkpoint import TrainedNetwork
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

TASK = task_of(epochs=2)
CLASSIFIER = SingleNetwork(3, 1.0)


@pytest.mark.parametrize("n_learners", [4, 5])  # of four classes: with 4 the last layer would fit
def test_the_selection_net_starts_with_all_weights_but_the_last_layers(n_learners: int) -> None:
    net = TASK.plan.build(n_learners, seed=0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    *_, classifier = CLASSIFIER.train(TASK, CPU, None)
    assert isinstance(classifier, TrainedNetwork)
    _start_from(net, classifier)
    last = [*before][-2:]
    for name, value in net.state_dict().items():
        expected = before[name] if name in last else classifier.state_dict[name]
        assert value.equal(expected), name


def test_it_is_trained_on_from_there_and_counts_the_epochs_of_both() -> None:
    rule = FromClassifier(replace(PARAMS, k="any"), CLASSIFIER)
    *_, trained = rule.train(TASK, CPU, None)
    assert isinstance(trained, TrainedNetwork)
    assert [epoch.epoch for epoch in trained.epochs] == [1, 2, 3, 1, 2]
    probs = rule.predict(trained, TASK, TASK.valid).numpy()
    assert (probs.argmax(1) == TASK.valid.labels_S).mean() == trained.valid_accuracy
    alone = TASK.begin(replace(PARAMS, k="any"), CPU).run()
    assert trained.epochs[-2].train_loss != alone.epochs[0].train_loss
    assert 1 <= rule.chosen_k(trained, TASK) <= 4
    np.testing.assert_allclose(probs.sum(1), 1)


def test_it_is_tried_at_each_lr() -> None:
    (by_lr,) = from_classifier(PARAMS, (0.5, 1.0), CLASSIFIER).values()
    assert {lr: rule.params.lr for lr, rule in by_lr.items()} == {0.5: 0.5, 1.0: 1.0}
