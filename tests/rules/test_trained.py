from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distcel.data.splits import Split
from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import DivergedError
from distcel.experiment.learner_sets import learner_specs
from distcel.rules.single_network import SingleNetwork
from distcel.rules.trained import (
    best_on_valid,
    brief_single,
    rules_beyond,
    smart_by_eq_7,
)
from distcel.search.refit import SmartRule
from distcel.train.checkpoint import EpochResult, TrainedNetwork
from distcel.train.estimate import count_samples
from distcel.train.selection import TrainingTask
from tests.core.test_ensemble import PARAMS
from tests.rules.test_gating import task_of

SPECS = learner_specs(("a", "b", "c", "d"))
TASK = task_of(epochs=2)
COUNTS = count_samples(TASK.train.labels_S, SPECS, TASK.experiment, "train", 0)
INLINE = InlineExecutor()
LRS = (PARAMS.lr, PARAMS.lr / 10)


@dataclass(frozen=True)
class Given:
    """Is trained in no time to the given accuracy on valid; without one it diverges."""

    valid_accuracy: float | None

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        if self.valid_accuracy is None:
            raise DivergedError("as it was to")
        result = EpochResult(1, 0.0, 0.0, self.valid_accuracy, seconds=2.0, ended_ms=1)
        yield TrainedNetwork({"x": np.zeros(1)}, self.valid_accuracy, (result,))

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        raise NotImplementedError


def test_the_lr_that_is_best_on_valid_counts(tmp_path: Path) -> None:
    rules = {
        "second": {0.1: Given(0.5), 0.2: Given(0.75), 0.3: Given(0.625)},
        "equal": {0.1: Given(0.5), 0.2: Given(0.5)},
        "one diverges": {0.1: Given(None), 0.2: Given(0.5)},
        "all diverge": {0.1: Given(None), 0.2: Given(None)},
    }
    found = best_on_valid(rules, TASK, INLINE, tmp_path, titles={name: name for name in rules})
    lrs = {title: chosen.lr for title, chosen in found.items()}
    assert lrs == {"second": 0.2, "equal": 0.1, "one diverges": 0.2}
    assert found["second"].rule == Given(0.75)
    assert found["second"].network.valid_accuracy == 0.75
    seconds = {title: chosen.seconds for title, chosen in found.items()}
    assert seconds == {"second": 6.0, "equal": 4.0, "one diverges": 2.0}


def test_all_are_trained_once_and_vote(tmp_path: Path) -> None:
    rules = brief_single(TASK.experiment, LRS)
    rules |= rules_beyond(TASK.experiment, PARAMS, COUNTS, LRS, single_lr=0.5)
    rules |= smart_by_eq_7(TASK.experiment.first_trial, LRS)
    chosen = best_on_valid(rules, TASK, INLINE, tmp_path)
    assert set(chosen) == set(rules)
    found = {key: one.facts(TASK) for key, one in chosen.items()}
    for key, one in chosen.items():
        probs = one.predict(TASK, TASK.valid).numpy()
        assert probs.shape == (160, 4)
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
        correct = (probs.argmax(1) == TASK.valid.labels_S).mean()
        assert correct == found[key]["valid_accuracy"]
        assert one.lr in rules[key]
    # 4 learners of one class of 80 samples, 6 of two of 160, two epochs; 2 of the selection net.
    whole, brief = found["single_network"], found["brief_single_network"]
    assert (whole["n_passes"], whole["n_epochs"], whole["lr"]) == (2880, 18, 0.5)
    assert (brief["n_passes"], brief["n_epochs"]) == (320, 2)
    assert found["soft_gating"]["n_passes"] == 320
    again = best_on_valid(rules, TASK, INLINE, tmp_path)
    for key, one in chosen.items():
        assert again[key].seconds == one.seconds  # its own, so it was not trained again
        assert again[key].lr == one.lr


def test_each_rule_is_tried_at_each_lr_but_for_the_long_single_network() -> None:
    rules = rules_beyond(TASK.experiment, PARAMS, COUNTS, LRS, single_lr=0.5)
    assert {title: tuple(by_lr) for title, by_lr in rules.items()} == {
        "single_network": (0.5,),
        "straight_through": LRS,
        "soft_gating": LRS,
    }
    (brief,) = brief_single(TASK.experiment, LRS).values()
    assert brief == {lr: SingleNetwork(2, lr) for lr in LRS}


def test_the_papers_point_is_the_first_trials_if_its_gradient_is_the_papers() -> None:
    first = replace(TASK.experiment.first_trial, lr=0.7)
    assert smart_by_eq_7(first, LRS) == {
        "e2e_cel_eq_7": {lr: SmartRule(replace(first, lr=lr)) for lr in (*LRS, 0.7)}
    }
    assert smart_by_eq_7(replace(first, gradient="exact"), LRS) == {}
