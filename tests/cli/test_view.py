"""What is known of a run from its events, and how that is laid out."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from distcel.cli.live import render
from distcel.execute.progress import (
    Address,
    Event,
    RunBegan,
    SearchBegan,
    StageBegan,
    Training,
    TrainingEnded,
    Trial,
)
from distcel.execute.view import View

CACHE = Path("learners")
POINT = {"k": 2, "epsilon": 0.1234, "m": 7, "lr": 1.0, "gradient": "exact", "vote": "sum"}


def viewed(*events: Event, at: Sequence[float] = ()) -> View:
    """The run after the events, of which each is at its time, or at 0."""
    view = View(0.0)
    for event, now in zip(events, at or [0.0] * len(events), strict=True):
        view = view.after(event, now)
    return view


def shown(view: View, now: float = 100.0, width: int = 90) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(render(view, now))
    return [line.rstrip() for line in capture.get().splitlines()]


def trial(number: int, state: str, n_epochs: int, accuracy: float | None) -> Trial:
    return Trial(number, state, n_epochs, accuracy, POINT)


def test_learners_are_counted_with_those_of_earlier_launches() -> None:
    events: list[Event] = [
        RunBegan("digits, seed 0", "digits", CACHE),
        StageBegan("base learners", n=10, done=4),
        *(Training(title) for title in ("cat", "dog", "cat+dog")),
        Training("cat", 2),
        TrainingEnded("dog"),
        TrainingEnded("cat+dog", is_kept=False),  # its worker was lost
        Address("MLflow", "here"),
    ]
    view = viewed(*events, at=[50, 60, 60, 60, 60, 70, 80, 90, 95])
    title, stage, address = shown(view)
    assert title == "digits, seed 0: base learners, 1 min 40 s so far"
    # One in 20 s, and 5 are left at the time 80.
    assert stage.startswith("base learners    5/10 ")
    assert stage.endswith(" about 1 min 20 s left, cat (epoch 2)")
    assert address.split() == ["MLflow", "here"]


def test_trials_are_counted_by_what_became_of_them() -> None:
    earlier = (trial(0, "COMPLETE", 9, 0.75), trial(1, "FAILED", 0, None))
    view = viewed(
        StageBegan("base learners", n=3, done=3),
        SearchBegan(8, 9, math.inf, earlier),
        trial(2, "RUNNING", 0, None),
        trial(3, "RUNNING", 0, None),
        trial(2, "RUNNING", 3, 0.9),
        trial(3, "RUNNING", 3, 0.5),
        trial(3, "COMPLETE", 3, 0.5),
        trial(4, "RUNNING", 1, 0.6),
        trial(5, "RUNNING", 8, 0.75),
        trial(5, "COMPLETE", 9, 0.75),
    )
    assert (view.stages[-1].done, view.stages[-1].kept) == (4, 2)
    assert view.counts() == {"running": 2, "stopped": 1, "failed": 1}
    _, learners, trials, best = shown(view)
    assert learners.startswith("base learners     3/3 ")
    assert "left" not in learners
    assert trials.split()[:2] == ["trials", "4/8"]
    assert trials.endswith(" 2 running, 1 stopped, 1 failed")
    # The running trial is not over, and the first of equals counts.
    assert best == "best so far     valid 0.7500, trial 0: k=2 epsilon=0.123 lr=1"


def test_a_trial_that_fails_in_its_refit_is_not_counted_twice() -> None:
    view = viewed(
        SearchBegan(1, 9, math.inf, (trial(0, "COMPLETE", 9, 0.75),)),
        StageBegan("refit", 1, 0),
        trial(0, "FAILED", 9, 0.75),
    )
    assert [(stage.name, stage.done) for stage in view.stages] == [("trials", 1), ("refit", 0)]


def test_time_left_ends_with_the_time_budget_and_is_not_known_before_a_trial() -> None:
    began = viewed(SearchBegan(9, 3, 60.0, ()), trial(0, "RUNNING", 0, None), at=[10, 10])
    assert began.stages[-1].seconds_left(20) is None
    view = began.after(trial(0, "COMPLETE", 3, 0.5), 30)
    assert view.stages[-1].seconds_left(40) == pytest.approx(10 + 60 - 40)
    for number in range(1, 9):
        view = view.after(trial(number, "COMPLETE", 3, 0.5), 35)
    assert view.stages[-1].seconds_left(40) is None


def test_the_next_run_of_a_reproduction_begins_anew() -> None:
    view = viewed(
        Address("MLflow", "here"),
        RunBegan("seed 0", "digits", CACHE),
        StageBegan("test"),
        RunBegan("seed 1", "digits", CACHE),
    )
    assert (view.title, view.stages, view.addresses) == ("seed 1", (), {"MLflow": "here"})
    assert shown(view)[0] == "seed 1: imports and data, 1 min 40 s so far"


def test_a_narrow_terminal_has_no_line_that_wraps() -> None:
    titles = [f"aeroplane+automobile {i}" for i in range(9)]
    view = viewed(StageBegan("base learners", 9), *map(Training, titles))
    assert all(len(line) <= 60 for line in shown(view, width=60))
    assert len(shown(view, width=60)) == 2
