"""What a prediction costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from distcel.core.networks import NetworkPlan


@dataclass(frozen=True)
class MultiplyAdds:
    """Of one image: the multiply-adds of the selection net and of one base learner.

    Attributes:
        selection_net: of a forward pass.
        learner: of a forward pass.
        distance: to one other image, pixel by pixel and channel by channel.
    """

    selection_net: int
    learner: int
    distance: int

    def of_sub_ensemble(self, k: int) -> int:
        """The smart ensemble's: the selection net and the k learners that it selects."""
        return self.selection_net + self.of_learners(k)

    def of_learners(self, count: int) -> int:
        """A rule's that asks so many learners and no selection net."""
        return count * self.learner


def multiply_adds(plan: NetworkPlan, n_learners: int, n_classes: int) -> MultiplyAdds:
    """Count those of the convolutions and linear layers; the others have few or none."""
    distance = math.prod(plan.image_shape)
    return MultiplyAdds(_of_network(plan, n_learners), _of_network(plan, n_classes), distance)


def _of_network(plan: NetworkPlan, n_outputs: int) -> int:
    network = plan.build(n_outputs, seed=0).eval()
    image = torch.zeros(1, *plan.image_shape, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // 2  # it counts a multiply-add as two
