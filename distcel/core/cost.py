"""The cost of a prediction in multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from distcel.core.networks import NetworkPlan


@dataclass(frozen=True)
class MultiplyAdds:
    """Multiply-adds of the parts of a prediction of one image.

    Attributes:
        selection_net: a forward pass of the selection net.
        learner: a forward pass of one base learner.
        distance: the distance to one other image, over all pixels and channels.
    """

    selection_net: int
    learner: int
    distance: int

    def of_sub_ensemble(self, k: int) -> int:
        """Multiply-adds of the smart ensemble: the selection net and k selected learners."""
        return self.selection_net + self.of_learners(k)

    def of_learners(self, count: int) -> int:
        """Multiply-adds of `count` learners without a selection net."""
        return count * self.learner


def multiply_adds(plan: NetworkPlan, n_learners: int, n_classes: int) -> MultiplyAdds:
    """Count the multiply-adds of convolutions and linear layers; other layers have few or none."""
    distance = math.prod(plan.image_shape)
    return MultiplyAdds(_of_network(plan, n_learners), _of_network(plan, n_classes), distance)


def _of_network(plan: NetworkPlan, n_outputs: int) -> int:
    network = plan.build(n_outputs, seed=0).eval()
    image = torch.zeros(1, *plan.image_shape, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // 2  # it counts a multiply-add as two
