from dataclasses import replace

import numpy as np
import torch

from distcel.data.splits import Split
from distcel.rules.controls import ControlRule, controls
from distcel.search.refit import SmartRule
from tests.cached_splits import made_splits
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

TASK = task_of(epochs=2)
SAME = replace(PARAMS, k=2)
CONSTANT, SHUFFLED = ControlRule("constant", SAME), ControlRule("shuffled", SAME)


def trained_and_probs(rule: ControlRule | SmartRule, split: Split) -> np.ndarray:
    *_, trained = rule.train(TASK, CPU, None)
    return rule.predict(trained, TASK, split).numpy()


def test_the_constant_is_the_mean_over_train_for_every_sample_of_every_split() -> None:
    replaced = CONSTANT._replaced(TASK.valid, TASK).probs_SNC
    assert replaced.shape == TASK.valid.probs_SNC.shape
    for sample in replaced:
        np.testing.assert_allclose(sample, TASK.train.probs_SNC.mean(0), rtol=1e-6)


def test_no_outputs_of_the_predicted_split_enter_the_constant_control() -> None:
    noise = np.random.default_rng(0).dirichlet(np.ones(4), TASK.valid.probs_SNC.shape[:2])
    other = replace(TASK.valid, probs_SNC=noise.astype(np.float32))
    plain, changed = (trained_and_probs(CONSTANT, split) for split in (TASK.valid, other))
    np.testing.assert_array_equal(plain, changed)
    plain, changed = (trained_and_probs(SmartRule(SAME), split) for split in (TASK.valid, other))
    assert not np.allclose(plain, changed)


def test_shuffled_outputs_are_always_another_samples_of_the_same_split() -> None:
    numbered = np.arange(160, dtype=np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    split = replace(TASK.valid, probs_SNC=numbered)
    found = SHUFFLED._replaced(split, TASK).probs_SNC[:, 0, 0]
    assert (found != np.arange(160)).all()
    np.testing.assert_array_equal(np.sort(found), np.arange(160))
    again = SHUFFLED._replaced(split, TASK).probs_SNC[:, 0, 0]
    np.testing.assert_array_equal(found, again)
    other = SHUFFLED._replaced(split, replace(TASK, seed=1)).probs_SNC[:, 0, 0]
    assert (found != other).any()


def test_a_control_is_trained_as_e2e_cel_is_but_on_the_replaced_outputs() -> None:
    splits = [CONSTANT._replaced(split, TASK) for split in (TASK.train, TASK.valid)]
    task = replace(TASK, splits=made_splits(*splits))
    (by_hand,) = SmartRule(SAME).train(task, CPU, None)
    (found,) = CONSTANT.train(TASK, CPU, None)
    for name, value in by_hand.weights.items():
        np.testing.assert_array_equal(value, found.weights[name])
    (real,) = SmartRule(SAME).train(TASK, CPU, None)
    assert real.epochs[-1].train_loss != found.epochs[-1].train_loss


def test_the_constant_control_can_classify_and_its_k_is_chosen_on_valid() -> None:
    rule = ControlRule("constant", replace(PARAMS, k="any"))
    (trained,) = rule.train(task_of(epochs=10), CPU, None)
    k = rule.chosen_k(trained, TASK)
    probs = rule.predict(trained, TASK, TASK.valid).numpy()
    assert (probs.argmax(1) == TASK.valid.labels_S).mean() == trained.valid_accuracy > 0.5
    fixed = ControlRule("constant", replace(PARAMS, k=k))
    assert torch.equal(fixed.predict(trained, TASK, TASK.valid), torch.from_numpy(probs))


def test_the_constant_control_has_every_lr_and_the_shuffled_one_the_trials() -> None:
    found = controls(PARAMS, (PARAMS.lr, 0.5))
    lrs = {key: [*by_lr] for key, by_lr in found.items()}
    assert lrs == {"constant_control": [PARAMS.lr, 0.5], "shuffled_control": [PARAMS.lr]}
    assert found["constant_control"][0.5] == ControlRule("constant", replace(PARAMS, lr=0.5))
