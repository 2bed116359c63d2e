"""The search space: the distributions of the hyperparameters, and the checks of their ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import create_trial

from distcel.experiment.errors import invalid, require
from distcel.experiment.types import (
    Experiment,
    Gradient,
    SelectionParams,
    VoteName,
    trains_any_k,
)

_NAMED_CHOICES = {"gradient": Gradient, "vote": VoteName}


def search_space(
    experiment: Experiment, n_learners: int, fixed: Mapping[str, Any]
) -> dict[str, BaseDistribution]:
    """The distributions that are searched: the experiment's, with the fixed values in place.

    What the experiment's space does not name has a default. k is `any`, or searched in 1..n on a
    logarithmic scale: from one learner to two is a larger step than from 20 to 21. m and the
    gradient are the first trial's, the vote is the paper's sum.

    Raises:
        InvalidInputError: a fixed name or value, or the space itself, holds an invalid point; or
            the space lacks a hyperparameter or has an unknown one.
    """
    first, any_k = experiment.first_trial, CategoricalDistribution(["any"])
    defaults: dict[str, BaseDistribution] = {
        "k": any_k if trains_any_k(experiment, fixed) else IntDistribution(1, n_learners, log=True),
        "m": CategoricalDistribution([first.m]),
        "gradient": CategoricalDistribution([first.gradient]),
        "vote": CategoricalDistribution(["sum"]),
    }
    space: dict[str, BaseDistribution] = {**defaults, **experiment.space}
    names = sorted(space)
    known = sorted(field.name for field in fields(SelectionParams))
    remedy = "give each of these a distribution, and no other"
    require(names == known, f"a space of {known}", names, remedy)
    for name, value in fixed.items():
        require(name in space, f"hyperparameter in {names}", name, "fix one of these")
        space[name] = CategoricalDistribution([value])
    for params in _corners(space):
        params.require_k_within(n_learners)
    return space


def require_within(space: Mapping[str, BaseDistribution], point: SelectionParams) -> None:
    """Raise InvalidInputError unless the point lies within the space.

    Tune would run a first trial outside the space, but no later launch could add it to its study.
    """
    try:
        create_trial(params=point.as_dict(), distributions=dict(space), value=0.0)
    except ValueError as error:
        remedy = "change first_trial or the space"
        raise invalid("a first trial within the space", str(error), remedy) from None


def few_lrs(lr: BaseDistribution, chosen: float) -> tuple[float, ...]:
    """Learning rates for a rule that has no search of its own, without repetitions.

    They are the one that the search chose, and those at a quarter and at three quarters of the
    searched range, on its scale; a categorical distribution gives all of its choices.
    """
    if isinstance(lr, CategoricalDistribution):
        others = [float(choice) for choice in lr.choices]  # type: ignore[arg-type]
    else:
        assert isinstance(lr, FloatDistribution | IntDistribution), "Optuna has no other kinds"
        scale = np.geomspace if lr.log else np.linspace
        others = [float(value) for value in scale(lr.low, lr.high, 5)[[1, 3]]]
    return tuple(dict.fromkeys([chosen, *others]))


def _corners(space: Mapping[str, BaseDistribution]) -> list[SelectionParams]:
    """The lowest and the highest point; the space is valid if both are."""

    def ends(name: str) -> tuple[Any, Any]:
        distribution = space[name]
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            if name in _NAMED_CHOICES:
                known = get_args(_NAMED_CHOICES[name])
                unknown = [choice for choice in choices if choice not in known]
                require(not unknown, f"{name}s in {known}", unknown, "choose from these")
                return choices[0], choices[-1]
            numbers = [choice for choice in choices if choice != "any"] or choices
            return min(numbers), max(numbers)  # type: ignore[type-var]
        return distribution.low, distribution.high  # type: ignore[attr-defined]

    named = {name: ends(name) for name in space}
    points = ({name: pair[i] for name, pair in named.items()} for i in (0, 1))
    return [SelectionParams.from_dict(point) for point in points]
