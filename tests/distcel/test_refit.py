from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcel import refit as refits
from distcel.checks import RunFailedError
from distcel.training import DivergedError
from distcel.trials import TrialStore
from distcel.types import EpochResult, SelectionParams, TrialRecord

PARAMS = SelectionParams(k=3, epsilon=0.1, m=10, lr=0.5, gradient="exact")


def test_a_trial_that_diverges_in_the_refit_is_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrialStore(tmp_path)
    for number, accuracy in enumerate((0.5, 0.9, 0.7)):
        epochs = (EpochResult(1, 1.0, 1.0, accuracy, 0.1, 1_800_000_000_000),)
        store.keep(TrialRecord(number, PARAMS, "COMPLETE", epochs))

    def refit(task: object, best: TrialRecord, *_: object) -> tuple[dict[str, Any], TrialRecord]:
        if best.number == 1:
            raise DivergedError("the training loss became nan")
        return {}, best

    monkeypatch.setattr(refits, "refit", refit)
    refit_best: Any = refits.refit_best
    _, best = refit_best(None, store, None, tmp_path)
    assert best.number == 2
    failed = TrialStore(tmp_path)[1]
    assert (failed.state, failed.reason) == ("FAILED", "in the refit, the training loss became nan")

    for number in (0, 2):
        store.keep(replace(store[number], state="FAILED", reason="nan"))
    with pytest.raises(RunFailedError, match="no trial of the search is complete"):
        refit_best(None, store, None, tmp_path)
