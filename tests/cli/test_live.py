"""The block in a terminal: log lines stay above it, and it leaves the terminal as it was."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.terminal import run_in_terminal

# A command that shows a run of made-up events, and ends as its argument says.
CHILD = """
import argparse, logging, sys, time
from pathlib import Path
from distcel.cli.exit_status import exit_status
from distcel.cli.output import run_shown
from distcel.execute.progress import RunBegan, StageBegan, Training, TrainingEnded, with_event

logger = logging.getLogger("distcel.made")

def run():
    with run_shown(argparse.Namespace(quiet=False, verbose=False, json="json" in sys.argv)):
        logger.warning("a warning before")
        logger.debug("run", extra=with_event(RunBegan("made, seed 0", "made", Path())))
        logger.debug("stage", extra=with_event(StageBegan("base learners", 2)))
        for title in ("cat", "dog"):
            logger.debug("begins", extra=with_event(Training(title)))
            time.sleep(0.5)
            print("printed by a library", file=sys.stderr)
            logger.info("base learner ends", extra=with_event(TrainingEnded(title)))
        logger.warning("trial 3: failed", extra=with_event(StageBegan("refit", 1)))
        logger.info("two base learners trained")
        if "fail" in sys.argv:
            raise ValueError("a defect")
        if "wait" in sys.argv:
            time.sleep(20)
        for i in range(100_000 if "busy" in sys.argv else 0):
            logger.info("line %d", i)
            time.sleep(0.0002)
    logger.info("results.json after 3 s")
    return 0

sys.exit(exit_status(run))
"""

ABOVE = [
    "a warning before",
    "printed by a library",
    "printed by a library",
    "trial 3: failed",
    "two base learners trained",
]

REFIT = r"(?s)two base learners trained.*made, seed 0: refit"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", CHILD, *arguments]


@pytest.mark.parametrize("arguments", [(), ("json",)])
def test_the_block_is_gone_at_the_end_and_the_log_is_not(arguments: tuple[str]) -> None:
    seen = run_in_terminal(command(*arguments))
    assert seen.status == 0
    assert [line for line in seen.screen() if line] == [*ABOVE, "results.json after 3 s"]
    assert "made, seed 0: base learners, " in seen.frames
    assert "base learners     1/2 " in seen.frames
    assert "made, seed 0: refit, " in seen.frames
    assert "base learner ends" not in seen.frames  # the block says it


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_block_with_the_reason_below_the_log(number: signal.Signals) -> None:
    seen = run_in_terminal(command("wait"), REFIT, number)
    assert seen.status == 128 + number
    *above, title, learners, refit, note, empty = seen.screen()
    assert above == ABOVE
    assert title.startswith("made, seed 0: refit, ")
    assert learners.startswith("base learners     2/2 ")
    assert refit.startswith("refit             0/1 ")
    assert note == f"{number.name}: stopping; the same command continues the run"
    assert empty == ""


def test_a_signal_between_many_lines_leaves_each_once() -> None:
    seen = run_in_terminal(command("busy"), "line 100", signal.SIGINT)
    assert seen.status == 128 + signal.SIGINT
    *above, title, _, _, note, empty = seen.screen()
    assert above == [*ABOVE, *(f"line {i}" for i in range(len(above) - len(ABOVE)))]
    assert title.startswith("made, seed 0: refit, ")
    assert (note, empty) == ("SIGINT: stopping; the same command continues the run", "")


def test_a_kill_leaves_the_cursor_below_the_block() -> None:
    seen = run_in_terminal(command("wait"), REFIT, signal.SIGKILL)
    assert seen.status == -signal.SIGKILL
    *_, refit, empty = seen.screen()
    assert refit.startswith("refit             0/1 ")
    assert empty == ""


def test_a_defect_shows_its_traceback_below_the_block() -> None:
    seen = run_in_terminal(command("fail"))
    lines = [line for line in seen.screen() if line]
    assert lines[: len(ABOVE)] == ABOVE
    assert lines[len(ABOVE) + 2].startswith("refit ")
    assert lines[len(ABOVE) + 3] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: a defect"


# Three threads write at once, while the height of the block changes.
CROWD = """
import argparse, logging, sys, threading
from pathlib import Path
from distcel.cli import live
from distcel.cli.output import run_shown
from distcel.execute.progress import Address, RunBegan, StageBegan, with_event

logger = logging.getLogger("distcel.made")
live._SECONDS_BETWEEN_DRAWINGS = 0.001

def log(name):
    for i in range(100):
        logger.info(f"{name} {i}")
        logger.debug("", extra=with_event(StageBegan(str(i % 7), 1)))
        if i % 7 == 0:
            logger.debug("", extra=with_event(RunBegan("made", "made", Path())))

with run_shown(argparse.Namespace(quiet=False, verbose=False, json=False)):
    threads = [threading.Thread(target=log, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for i in range(100):
        print(f"printed {i}")
    for thread in threads:
        thread.join()
"""


def test_threads_that_write_at_once_leave_each_line_once() -> None:
    seen = run_in_terminal([sys.executable, "-c", CROWD])
    assert seen.status == 0
    lines = [line for line in seen.screen() if line]
    expected = [f"{name} {i}" for name in ("a", "b", "printed") for i in range(100)]
    assert sorted(lines) == sorted(expected)


def test_a_terminal_that_cannot_move_its_cursor_has_lines() -> None:
    seen = run_in_terminal(["env", "TERM=dumb", *command()])
    assert seen.status == 0
    lines = [*ABOVE, "results.json after 3 s"]
    lines[1:3] = ["printed by a library", "base learner ends"] * 2
    assert seen.screen() == [*lines, ""]
