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


def test_a_trial_keeps_its_number_when_tune_moves_it_to_the_end(tmp_path: Path) -> None:
    recorder = Recorder(TrialStore(tmp_path))
    a, b, c = (Created(name) for name in "abc")
    recorder.on_trial_start(0, [a, b], a)
    recorder.on_trial_start(0, [a, b], b)
    recorder.on_trial_start(0, [b, c, a], a)  # its worker died, and it begins again
    recorder.on_trial_start(0, [b, c, a], c)
    assert recorder.numbers == {"a": 0, "b": 1, "c": 2}
    assert [record.number for record in TrialStore(tmp_path).running()] == [0, 1, 2]


@pytest.mark.parametrize("of_an_earlier_launch", [True, False])
def test_a_trial_that_has_not_begun_does_not_fail_by_its_workers_death(
    of_an_earlier_launch: bool, tmp_path: Path
) -> None:
    store, error = TrialStore(tmp_path / "trials"), tmp_path / "error.txt"
    error.write_text("Failure # 2\nray: The actor died: its worker process has died.")
    if of_an_earlier_launch:
        store.keep(TrialRecord(0, PARAMS, "RUNNING"))
    recorder, trial = Recorder(store), Created("a", error)
    recorder.on_trial_error(0, [trial], trial)
    assert (store[0].state, recorder.lost_a_trial) == ("RUNNING", True)

    recorder = Recorder(store)
    recorder.on_trial_start(0, [trial], trial)
    recorder.on_trial_error(0, [trial], trial)
    assert (store[0].state, recorder.lost_a_trial) == ("FAILED", False)
