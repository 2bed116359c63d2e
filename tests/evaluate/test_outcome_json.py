import json
from dataclasses import replace

import numpy as np
import pytest

from distcel.evaluate.gradients import Estimator, EstimatorRun, GradientStudy
from distcel.evaluate.outcome_json import as_json, from_json
from distcel.evaluate.outcomes import SeedOutcome
from distcel.report.document import report
from distcel.rules.trained import TrainedRule
from distcel.train.checkpoint import EpochResult
from tests.report.test_reproduction import FEMALE, outcome


def whole(seed: int) -> SeedOutcome:
    """An outcome with all that a reproduction may have."""
    found = outcome(seed, {1: 0.5, 2: 0.8, 6: 0.7}, FEMALE, learned_k=2)
    epoch = EpochResult(1, 1.0, 1.0, 0.75, 2.0, 1)
    runs = [EstimatorRun(Estimator("exact", 1), (epoch,), 0.5)]
    soft = TrainedRule(np.zeros((40, 4), np.float32), 0.75, 0.03, 2, 600, 12.0)
    comparison = replace(
        found.comparison,
        trained={"soft gating": soft},
        gradients=GradientStudy(seed, tuple(runs)),
        diverged=["single network"],
    )
    return replace(found, comparison=comparison)


def test_a_report_is_the_same_from_what_is_kept() -> None:
    found = [whole(0), whole(1)]
    again = [from_json(json.loads(json.dumps(as_json(one)))) for one in found]
    text = report("command", again, None)
    assert text == report("command", found, None)
    for part in ("Table 9, ", "Diverged", "side by side", "Table 5b", "soft gating"):
        assert part in text
    assert [as_json(one) for one in again] == [as_json(one) for one in found]


@pytest.mark.parametrize("field", ["results", "against", "curve", "multiply_adds", "seconds"])
def test_what_another_version_kept_is_refused(field: str) -> None:
    kept = json.loads(json.dumps(as_json(whole(0))))
    del kept[field]
    with pytest.raises(LookupError):
        from_json(kept)
