import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.search import silence
from distcel.search.recorder import Recorder
from distcel.search.silence import Silence
from distcel.search.trials import TrialStore


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(silence, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_trial_without_a_worker_and_one_that_is_silent_are_named_once_a_minute(
    at: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[float] = []

    def find_pool() -> WorkerPool:
        looks.append(at.now)
        return WorkerPool(1, 1.0, 0.0)

    caplog.set_level(logging.WARNING, "distcel")
    recorder = Recorder(TrialStore(tmp_path))
    callback = Silence(recorder, RayExecutor(find_pool))
    trial = SimpleNamespace(trial_id="a", status="PENDING", config={})
    recorder.name(trial)  # as Tune makes it

    def step(seconds: float) -> list[str]:
        at.now += seconds
        caplog.clear()
        callback.on_step_begin(0, [trial])
        return caplog.messages

    assert [bool(step(seconds)) for seconds in (3, 59, 3, 30, 40)] == [0, 0, 1, 0, 1]
    assert looks  # nodes that join and leave meanwhile are named
    assert "trial 0: has waited for a worker for 132 s" in caplog.text

    trial.status = "RUNNING"
    callback.on_trial_start(0, [trial], trial)
    assert not step(1000)  # no epoch has shown how long one takes
    at.now += 5
    callback.on_trial_result(0, [trial], trial, {})
    longest = 1005  # until its first result
    assert not step(10 * longest - 1)
    (line,) = step(2)
    assert line == "trial 0: its worker is silent for 10051 s; epochs took 1005.0 s at most"
    assert not step(10 * longest - 5)
    assert step(10)
