import pytest

from distcel.core.cost import MultiplyAdds, knee, multiply_adds, pareto_front
from distcel.core.networks import NetworkPlan
from distcel.experiment.types import Architecture


def test_the_multiply_adds_of_a_lenet_by_hand() -> None:
    plan = NetworkPlan(Architecture("lenet", (6, 16)), (1, 28, 28), (0.5,), (0.5,))
    convolutions = 24 * 24 * 6 * 25 + 8 * 8 * 16 * 6 * 25
    linear = 256 * 120 + 120 * 84
    found = multiply_adds(plan, n_learners=55, n_classes=10)
    assert found.selection_net == convolutions + linear + 84 * 55
    assert found.learner == convolutions + linear + 84 * 10
    assert found.distance == 28 * 28


def test_the_multiply_adds_of_a_resnet18_are_the_published_ones() -> None:
    plan = NetworkPlan(Architecture("resnet18"), (3, 224, 224), (0.5,) * 3, (0.5,) * 3)
    # 1.8 billion (He et al. 2016, Table 1).
    assert multiply_adds(plan, 1000, 2).selection_net / 1e9 == pytest.approx(1.8, abs=0.05)


def test_a_sub_ensemble_costs_its_selection_and_its_learners() -> None:
    cost = MultiplyAdds(selection_net=1000, learner=30, distance=1)
    assert (cost.of_sub_ensemble(3), cost.of_learners(3)) == (1090, 90)


def test_the_front_holds_what_nothing_cheaper_equals() -> None:
    costs, accuracies = [4.0, 1.0, 2.0, 3.0, 4.0], [0.8, 0.5, 0.7, 0.7, 0.9]
    assert pareto_front(costs, accuracies) == [1, 2, 4]


def test_the_knee_is_farthest_above_the_chord() -> None:
    # On the chord from (0, 0) to (10, 1): 0.1 and 0.4; above it by 0.4 and 0.45.
    costs, accuracies = [0.0, 1.0, 4.0, 6.0, 10.0], [0.0, 0.5, 0.85, 0.2, 1.0]
    assert knee(costs, accuracies) == 2
    assert knee([1e6 * cost for cost in costs], [a / 100 for a in accuracies]) == 2


@pytest.mark.parametrize("accuracies", [[0.5, 0.4, 0.9], [0.0, 0.1, 0.9], [0.9, 0.8, 0.7]])
def test_there_is_no_knee_where_nothing_is_above_the_chord(accuracies: list[float]) -> None:
    assert knee([1.0, 2.0, 3.0], accuracies) is None
