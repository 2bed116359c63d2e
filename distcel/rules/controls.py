"""Controls: e2e-CEL on predictions that say nothing about the image at hand.

What it reaches with them is what the selection net knows by itself. The difference from e2e-CEL on
the real predictions is the gain from the learners.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from distcel.data.splits import Split
from distcel.experiment.types import SelectionParams
from distcel.rules.rule import Rule, unknown
from distcel.search.refit import SmartRule, choose_k
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask

CONSTANT = Rule(
    key="constant_control",
    title="constant control",
    about="e2e-CEL whose base learners each give the same output for every image, their mean "
    "output over the samples that the selection net is trained on. It is trained by the same "
    "recipe at the best trial's epsilon and k, or, where one net is trained for every k, at the k "
    "that is best on valid. The search is not repeated for it",
    fitted_on="train",
    n_used=unknown,
    cost=unknown,
)
SHUFFLED = Rule(
    key="shuffled_control",
    title="shuffled control",
    about="the same with the base learners' outputs for another image of the same split, drawn "
    "with the seed, at the best trial's learning rate",
    fitted_on="train",
    n_used=unknown,
    cost=unknown,
)


@dataclass(frozen=True)
class ControlRule:
    """E2e-CEL with the base learners' outputs replaced, in training and in prediction.

    Attributes:
        kind: `constant`: each learner's mean output over the task's train split, for every sample
            of every split; `shuffled`: the outputs for another sample of the same split.
        params: the parameters of the smart ensemble; a k of `any` is chosen on valid.
    """

    kind: Literal["constant", "shuffled"]
    params: SelectionParams

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[TrainedNetwork]:
        """Train for all epochs of the selection net, always from the start: no state is kept.

        Raises:
            DivergedError: a loss became NaN or infinite.
        """
        return SmartRule(self.params).train(self._controlled(task), device, state)

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities (Eq. 11) from the replaced outputs, shape (S, C)."""
        own = replace(self.params, k=self.chosen_k(trained, task))
        return SmartRule(own).predict(trained, task, self._replaced(split, task))

    def chosen_k(self, trained: TrainedNetwork, task: TrainingTask) -> int:
        """The parameters' k, or the best one on valid with its outputs replaced."""
        return choose_k(self._controlled(task), self.params, trained)[0].chosen_k

    def _controlled(self, task: TrainingTask) -> TrainingTask:
        by_name = {name: self._replaced(split, task) for name, split in task.splits.by_name.items()}
        return replace(task, splits=replace(task.splits, by_name=by_name))

    def _replaced(self, split: Split, task: TrainingTask) -> Split:
        if self.kind == "constant":
            means_NC = task.train.probs_SNC.mean(0, dtype=np.float64).astype(np.float32)
            return replace(split, probs_SNC=np.broadcast_to(means_NC, split.probs_SNC.shape))
        order_S = np.random.default_rng(task.seed).permutation(len(split.labels_S))
        probs_SNC = np.empty_like(split.probs_SNC)
        probs_SNC[order_S] = split.probs_SNC[np.roll(order_S, 1)]  # one cycle: always another's
        return replace(split, probs_SNC=probs_SNC)


def controls(params: SelectionParams, lrs: Sequence[float]) -> dict[str, dict[float, ControlRule]]:
    """The controls by key and learning rate.

    Args:
        params: the best trial's, whose k may be `any`.
        lrs: learning rates of the constant control, which e2e-CEL is measured against.
    """
    own = {lr: replace(params, lr=lr) for lr in lrs}
    return {
        CONSTANT.key: {lr: ControlRule("constant", point) for lr, point in own.items()},
        SHUFFLED.key: {params.lr: ControlRule("shuffled", params)},
    }
