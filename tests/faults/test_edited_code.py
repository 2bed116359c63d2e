"""The files of distcel are edited while a launch runs."""

from __future__ import annotations

import distcel
from tests.faults.observed import Seen


def test_a_launch_continues_with_the_code_that_it_began_with(seen: Seen) -> None:
    assert seen.status == 0, seen.output
    assert "edited" not in seen.output
    assert "55 base learners trained" in seen.output
    # Refused by its server: the tracker's modules ran too.
    assert "MLflow failed (MlflowException)" in seen.output
    records = distcel.load_run(seen.folder / "runs" / "digits-smoke-seed0").trials()
    assert list(records["state"]) == ["COMPLETE", "COMPLETE"]
