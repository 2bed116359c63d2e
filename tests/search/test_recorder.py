from pathlib import Path

import pytest

from distcel.experiment.types import SelectionParams
from distcel.search.recorder import Recorder
from distcel.search.trials import TrialRecord, TrialStore

PARAMS = SelectionParams(k=2, epsilon=0.1, m=4, lr=0.01, gradient="exact")


class Created:
    """The attributes of one of Tune's trials that the recorder uses."""

    def __init__(self, name: str, error_file: Path | None = None) -> None:
        self.trial_id, self.config, self.error_file = name, PARAMS.as_dict(), error_file


def test_trials_are_numbered_and_named_in_the_order_in_which_tune_makes_them(
    tmp_path: Path,
) -> None:
    store = TrialStore(tmp_path)
    store.keep(TrialRecord(3, PARAMS, "RUNNING"))  # interrupted, which the searcher proposes first
    recorder = Recorder(store)
    a, b, c = (Created(name) for name in "abc")
    names = [recorder.name(trial) for trial in (a, b, a, c)]  # a is made again for another try
    assert names == [f"trial {number} k=2 epsilon=0.1 lr=0.01" for number in (3, 4, 3, 5)]
    recorder.on_trial_start(0, [b, c], c)
    recorder.on_trial_start(0, [b, c], b)
    assert [record.number for record in TrialStore(tmp_path).running()] == [3, 4, 5]


@pytest.mark.parametrize("of_an_earlier_launch", [True, False])
def test_a_trial_that_has_not_begun_does_not_fail_by_its_workers_death(
    of_an_earlier_launch: bool, tmp_path: Path
) -> None:
    store, error = TrialStore(tmp_path / "trials"), tmp_path / "error.txt"
    error.write_text("Failure # 2\nray: The actor died: its worker process has died.")
    if of_an_earlier_launch:
        store.keep(TrialRecord(0, PARAMS, "RUNNING"))
    recorder, trial = Recorder(store), Created("a", error)
    recorder.name(trial)
    recorder.on_trial_error(0, [trial], trial)
    assert (store[0].state, recorder.lost_a_trial) == ("RUNNING", True)

    recorder = Recorder(store)
    recorder.name(trial)
    recorder.on_trial_start(0, [trial], trial)
    recorder.on_trial_error(0, [trial], trial)
    assert (store[0].state, recorder.lost_a_trial) == ("FAILED", False)
