"""Progress bars of runs that are started from Python."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

import distcel
from distcel.cli import notebook
from distcel.execute.progress import (
    Event,
    RunBegan,
    SearchBegan,
    StageBegan,
    Training,
    TrainingEnded,
    Trial,
    with_event,
)

POINT = {"k": 3, "epsilon": 0.1, "m": 1, "lr": 1.0}


def test_each_stage_has_a_bar_and_the_log_is_then_as_it_was(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notebook, "_SECONDS_BETWEEN_DRAWINGS", 0.0)
    logger = logging.getLogger("distcel")
    before = [*logger.handlers], logger.level, logger.propagate
    events: list[Event] = [
        *(RunBegan("made, seed 0", "made", Path()), StageBegan("base learners", 3, done=1)),
        *(Training("cat"), TrainingEnded("cat"), Training("dog")),
        TrainingEnded("dog", is_kept=False),
        SearchBegan(2, 5, math.inf, trials=()),
        *(Trial(0, "COMPLETE", 5, 0.5, POINT), Trial(1, "RUNNING", 1, 0.25, POINT)),
    ]
    with distcel.progress():
        for event in events:
            logger.info("a line of its own", extra=with_event(event))
        logger.info("two sentences")
        logger.warning("trial 1: failed", extra=with_event(Trial(1, "FAILED", 1, 0.25, POINT)))
    assert ([*logger.handlers], logger.level, logger.propagate) == before
    assert caplog.records == []  # of the root logger, which notebooks may show as well
    shown = capsys.readouterr()
    *bars, _ = [line.split("\r")[-1] for line in shown.err.split("\n")]
    assert [bar.partition("|")[0] for bar in bars] == ["base learners:  67%", "trials: 100%"]
    assert "1 failed, best valid 0.5000, trial 0: k=3 epsilon=0.1 lr=1" in bars[1]
    assert "cat" in shown.err
    assert shown.out == "two sentences\ntrial 1: failed\n"
