"""The trials of a search as an Optuna study; needs neither torch nor Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial


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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in trials:
        failed, accuracies = trial["state"] == "FAILED", trial["valid_accuracies"]
        study.add_trial(
            create_trial(
                state=TrialState.FAIL if failed else TrialState.COMPLETE,
                params=trial["params"],
                distributions=dict(space),
                value=None if failed else accuracies[-1],
                intermediate_values=dict(enumerate(accuracies, 1)),
                user_attrs={"number": trial["number"]},
            )
        )
    return study
