"""What a search is over: the distributions of the hyperparameters, found valid at their ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from distcel.checks import require
from distcel.types import Experiment, Gradient, SelectionParams, VoteName

_NAMED_CHOICES = {"gradient": Gradient, "vote": VoteName}


def search_space(
    experiment: Experiment, n_learners: int, fixed: Mapping[str, Any]
) -> dict[str, BaseDistribution]:
    """The distributions that are searched: the experiment's and what is fixed.

    Where they name neither, the vote is the paper's sum and k is 1..n on a logarithmic scale: from
    one learner to two is a larger step than from 20 to 21.

    Raises:
        InvalidInputError: a fixed name or value, or the space itself, holds an invalid point.
    """
    papers = {
        "k": IntDistribution(1, n_learners, log=True),
        "vote": CategoricalDistribution(["sum"]),
    }
    space: dict[str, BaseDistribution] = {**papers, **experiment.space}
    names = sorted(space)
    for name, value in fixed.items():
        require(name in space, f"hyperparameter in {names}", name, "fix one of these")
        space[name] = CategoricalDistribution([value])
    for params in _corners(space):
        params.require_k_within(n_learners)
    return space


def _corners(space: Mapping[str, BaseDistribution]) -> list[SelectionParams]:
    """The lowest and the highest point, whose validity is the space's."""

    def ends(name: str) -> tuple[Any, Any]:
        distribution = space[name]
        if isinstance(distribution, CategoricalDistribution):
            choices = distribution.choices
            if name in _NAMED_CHOICES:
                known = get_args(_NAMED_CHOICES[name])
                unknown = [choice for choice in choices if choice not in known]
                require(not unknown, f"{name}s in {known}", unknown, "choose from these")
                return choices[0], choices[-1]
            return min(choices), max(choices)  # type: ignore[type-var]
        return distribution.low, distribution.high  # type: ignore[attr-defined]

    named = {name: ends(name) for name in space}
    return [SelectionParams(**{name: pair[i] for name, pair in named.items()}) for i in (0, 1)]
