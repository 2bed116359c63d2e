from pathlib import Path

from distcel.recorder import Recorder
from distcel.trials import TrialStore
from distcel.types import SelectionParams

PARAMS = SelectionParams(k=2, epsilon=0.1, m=4, lr=0.01, gradient="exact")


class Created:
    """What the recorder knows of one of Tune's trials."""

    def __init__(self, name: str) -> None:
        self.trial_id, self.config, self.error_file = name, PARAMS.as_dict(), None


def test_a_trial_keeps_its_number_when_tune_moves_it_to_the_end(tmp_path: Path) -> None:
    recorder = Recorder(TrialStore(tmp_path))
    a, b, c = (Created(name) for name in "abc")
    recorder.on_trial_start(0, [a, b], a)
    recorder.on_trial_start(0, [a, b], b)
    recorder.on_trial_start(0, [b, c, a], a)  # its worker died, and it begins again
    recorder.on_trial_start(0, [b, c, a], c)
    assert recorder.numbers == {"a": 0, "b": 1, "c": 2}
    assert [record.number for record in TrialStore(tmp_path).running()] == [0, 1, 2]
