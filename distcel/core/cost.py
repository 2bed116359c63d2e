"""What a prediction costs, and which of several are worth it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


def pareto_front(costs: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Indices of the points that no cheaper or equally cheap one equals, the cheapest first."""
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -accuracies[i])):
        if not front or accuracies[i] > accuracies[front[-1]]:
            front.append(i)
    return front


def knee(costs: Sequence[float], accuracies: Sequence[float]) -> int | None:
    """Index of the front's point farthest above the chord between its ends (Satopaa et al. 2011).

    None where no point of the front lies above it.
    """
    front = pareto_front(costs, accuracies)
    if len(front) < 3:
        return None
    x, y = (np.array(values, float)[front] for values in (costs, accuracies))
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return front[int(above.argmax())] if above.max() > 0 else None
