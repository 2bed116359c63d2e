"""A seed's outcome as JSON and back: what is kept in a reproduction's `results.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from distcel.core.cost import MultiplyAdds
from distcel.evaluate.compare import Comparison
from distcel.evaluate.gradients import Estimator, EstimatorRun, GradientStudy
from distcel.evaluate.measures import Measures
from distcel.evaluate.outcomes import SeedOutcome
from distcel.evaluate.significance import Difference
from distcel.experiment.types import SelectionParams
from distcel.rules.trained import TrainedRule
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import EpochResult


def as_json(outcome: SeedOutcome) -> dict[str, Any]:
    """All of it but what the trained rules say of each sample."""
    comparison = outcome.comparison
    learned, gradients = comparison.learned_vote, comparison.gradients
    return {
        "results": dict(outcome.results),
        **asdict(comparison.measures),
        "curve": {str(k): dict(v) for k, v in comparison.curve.items()},
        "valid_curve": {str(k): v for k, v in comparison.valid_curve.items()},
        "multiply_adds": asdict(comparison.cost),
        "settings": dict(comparison.settings),
        "trained": {title: _facts(rule) for title, rule in comparison.trained.items()},
        "learned_vote": asdict(learned) if learned else None,
        "gradients": asdict(gradients) if gradients else None,
        "diverged": list(comparison.diverged),
        "seconds": dict(comparison.seconds),
    }


def _facts(rule: TrainedRule) -> dict[str, float]:
    return {name: value for name, value in vars(rule).items() if name != "probs_SC"}


def from_json(seed: Mapping[str, Any]) -> SeedOutcome:
    """What `as_json` gave.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: it is of another version of distcel.
    """
    against = {
        leader: {title: Difference(**difference) for title, difference in rivals.items()}
        for leader, rivals in seed["against"].items()
    }
    measured = {name: seed[name] for name in Measures.__dataclass_fields__ if name != "against"}
    nothing_said = np.zeros((0, 0), np.float32)
    comparison = Comparison(
        Measures(**measured, against=against),
        {int(k): v for k, v in seed["curve"].items()},
        {int(k): v for k, v in seed["valid_curve"].items()},
        MultiplyAdds(**seed["multiply_adds"]),
        seed["settings"],
        {title: TrainedRule(nothing_said, **facts) for title, facts in seed["trained"].items()},
        _trial(seed["learned_vote"]) if seed["learned_vote"] else None,
        _study(seed["gradients"]) if seed["gradients"] else None,
        seed["diverged"],
        seed["seconds"],
    )
    return SeedOutcome(seed["results"], comparison)


def _trial(trial: Mapping[str, Any]) -> TrialRecord:
    params, epochs = SelectionParams.from_dict(trial["params"]), _epochs(trial["epochs"])
    return TrialRecord(trial["number"], params, trial["state"], epochs, trial["reason"])


def _study(study: Mapping[str, Any]) -> GradientStudy:
    runs = [
        EstimatorRun(Estimator(**run["estimator"]), _epochs(run["epochs"]), run["test_accuracy"])
        for run in study["runs"]
    ]
    return GradientStudy(study["seed"], tuple(runs))


def _epochs(epochs: list[Mapping[str, Any]]) -> tuple[EpochResult, ...]:
    return tuple(EpochResult(**epoch) for epoch in epochs)
