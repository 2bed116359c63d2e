import pytest

from distcel.core.cost import MultiplyAdds, multiply_adds
from distcel.core.networks import NetworkPlan
from distcel.experiment.architecture import Architecture


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
