"""The trials of a search as an Optuna study; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

STATES = {
    "RUNNING": TrialState.RUNNING,
    "COMPLETE": TrialState.COMPLETE,
    "FAILED": TrialState.FAIL,
}


def quiet_optuna() -> None:
    """Let Optuna log errors alone: it names each new study, and warns that greenlet is missing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def study_of(
    trials: Sequence[Mapping[str, Any]],
    space: Mapping[str, BaseDistribution],
    sampler: optuna.samplers.BaseSampler | None = None,
) -> optuna.Study:
    """A study in memory of the trials that have ended.

    Args:
        trials: the trials, as `TrialRecord.facts` returns them.
        space: the distribution of each hyperparameter.
        sampler: proposes further points; None is Optuna's own.
    """
    quiet_optuna()
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        study.add_trial(frozen_trial(trial, space))
    return study


def frozen_trial(trial: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> FrozenTrial:
    """A trial of Optuna with the accuracy on valid of each epoch as its intermediate values.

    Args:
        trial: the trial, as `TrialRecord.facts` returns it.
        space: the distribution of each hyperparameter.
    """
    accuracies = trial["valid_accuracies"]
    return create_trial(
        state=STATES[trial["state"]],
        params=trial["params"],
        distributions=dict(space),
        value=accuracies[-1] if trial["state"] == "COMPLETE" else None,
        intermediate_values=dict(enumerate(accuracies, 1)),
        user_attrs={"number": trial["number"]},
    )
