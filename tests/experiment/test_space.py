from dataclasses import replace

import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import load_experiment
from distcel.experiment.space import few_lrs, require_within, search_space
from distcel.experiment.types import first_point


def test_k_is_searched_over_1_to_n_on_a_logarithmic_scale() -> None:
    space = search_space(load_experiment("mnist", "paper"), 55, {})
    assert space["k"] == IntDistribution(1, 55, log=True)
    assert set(space) == {"k", "vote", "epsilon", "m", "lr", "gradient"}


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"k": 0}, "expected a whole number k >= 1, but got 0"),
        ({"k": 56}, "expected 1 <= k <= n = 55, but got 56"),
        ({"epsilon": float("nan")}, "expected 0 < epsilon < infinity, but got nan"),
        ({"epsilon": 0.0}, "expected 0 < epsilon < infinity, but got 0.0"),
        ({"lr": -1.0}, "expected 0 < lr < infinity, but got -1.0"),
        ({"m": 0}, "expected a whole number m >= 1, but got 0"),
        ({"gradient": "straight-through"}, "expected gradients in .*, but got"),
        ({"vote": "loud"}, "expected votes in .*, but got"),
        ({"temperature": 1.0}, "expected hyperparameter in .*, but got 'temperature'"),
    ],
)
def test_a_space_with_an_invalid_point_is_refused(fixed: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        search_space(load_experiment("mnist", "paper"), 55, fixed)


def test_a_space_file_with_an_invalid_range_is_refused() -> None:
    experiment = load_experiment("mnist", "paper")
    space = {**experiment.space, "k": IntDistribution(1, 60)}
    with pytest.raises(InvalidInputError, match="expected 1 <= k <= n = 55, but got 60"):
        search_space(replace(experiment, space=space), 55, {})


def test_a_space_file_without_a_hyperparameter_or_with_an_unknown_one_is_refused() -> None:
    experiment = load_experiment("mnist", "paper")
    without = {name: d for name, d in experiment.space.items() if name != "lr"}
    more = {**experiment.space, "momentum": FloatDistribution(0.1, 0.9)}
    for space in (without, more):
        with pytest.raises(InvalidInputError, match="expected a space of "):
            search_space(replace(experiment, space=space), 55, {})


@pytest.mark.parametrize("outside", [{"lr": 1000.0}, {"k": 56}, {"gradient": "exact"}])
def test_a_first_trial_outside_the_space_is_refused(outside: dict[str, object]) -> None:
    experiment = load_experiment("mnist", "paper")
    space = search_space(experiment, 55, {"gradient": "paper"})
    point = replace(experiment.first_trial, gradient="paper")
    require_within(space, point)
    with pytest.raises(InvalidInputError, match="expected a first trial within the space"):
        require_within(space, replace(point, **outside))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lr", "expected"),
    [
        (FloatDistribution(0.01, 100.0, log=True), [0.5, 0.1, 10.0]),
        (FloatDistribution(1.0, 5.0), [0.5, 2.0, 4.0]),
        (CategoricalDistribution([0.1, 0.5, 0.9]), [0.5, 0.1, 0.9]),
        (CategoricalDistribution([0.5]), [0.5]),
    ],
)
def test_a_rule_without_a_search_has_the_chosen_lr_and_others_of_its_range(
    lr: BaseDistribution, expected: list[float]
) -> None:
    assert few_lrs(lr, chosen=0.5) == pytest.approx(tuple(expected))


def test_any_k_is_no_dimension_but_with_a_learned_vote_k_is_searched() -> None:
    experiment = load_experiment("mnist", "quick")
    assert search_space(experiment, 55, {})["k"] == CategoricalDistribution(["any"])
    assert first_point(experiment, 55, {}).k == "any"
    learned = {"vote": "learned"}
    assert search_space(experiment, 55, learned)["k"] == IntDistribution(1, 55, log=True)
    assert first_point(experiment, 55, learned).k == 10
    one = {"k": 7}
    assert search_space(experiment, 55, one)["k"] == CategoricalDistribution([7])
    assert first_point(experiment, 55, one).k == 7
    papers = load_experiment("mnist", "paper")
    assert first_point(papers, 55, {"k": "any"}).k == "any"
    with pytest.raises(InvalidInputError, match="expected the vote sum with k = any"):
        search_space(papers, 55, {"k": "any", "vote": "learned"})


def test_what_a_space_does_not_name_is_the_first_trials() -> None:
    space = search_space(load_experiment("mnist", "quick"), 55, {})
    assert space["gradient"] == CategoricalDistribution(["exact"])
    assert space["m"] == CategoricalDistribution([1])
