import pytest

from distcel.report.pareto import cost_points, knee, pareto_front
from tests.report.made_results import made_results, made_seed


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


def test_the_cost_of_each_common_k_and_of_the_rules_whose_cost_is_known() -> None:
    points = {(p.title, p.k): p for p in cost_points(made_results({}))}
    millions = {key: point.multiply_adds / 1e6 for key, point in points.items()}
    assert millions == {
        ("e2e-CEL", 1): 1.5,
        ("e2e-CEL", 2): 2.0,
        ("e2e-CEL", 3): 2.5,
        ("e2e-CEL", 6): 4.0,
        ("e2e-CEL, k of each search", 2.5): 2.25,
        ("static top-k", 2.5): 1.25,
        ("RS", 2.5): 1.25,
        ("SL", 6): 3.0,
        ("UA", 6): 3.0,
        ("PV", 6): 3.0,
        ("logistic stacking", 6): 3.000096,
        ("static top-k of its own k", 4): 2.0,
        ("soft gating", 6): 4.0,
        ("nearest neighbours", 0): 0.03,
        ("single network", 0): 0.5,
        ("e2e-CEL by Eq. 7", 5): 3.5,
        ("straight-through top-k", 2.5): 2.25,
        ("best learner", 1): 0.5,
        ("discrete SL", 1): 0.5,
    }
    assert points["e2e-CEL", 1].accuracies == (0.50, 0.52)
    assert points["UA", 6].accuracies == (0.5, 0.5)
    assert points["e2e-CEL, k of each search", 2.5].accuracies == (0.75, 0.75)
    assert [k for (_, k), point in points.items() if point.on_front] == [1, 2, 6]
    assert [k for (_, k), point in points.items() if point.is_knee] == [2]


def test_the_learned_votes_cost_has_its_matrices() -> None:
    seeds = [made_seed(seed, {1: 0.5, 2: 0.8}, {}, learned_k=seed + 1) for seed in (0, 1)]
    points = cost_points({"seeds": seeds})
    (point,) = (point for point in points if point.key == "learned_vote")
    # A net, 1 and 2 learners, and as many matrices of 4 x 4.
    assert point.multiply_adds == (1_500_000 + 16 + 2_000_000 + 32) / 2
    assert (point.k, point.accuracies, point.on_front) == (1.5, (0.5, 0.5), False)
