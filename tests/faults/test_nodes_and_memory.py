"""Nodes that are lost without warning, and a trial that takes too much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def run(module: str, *arguments: object) -> list[str]:
    """The lines that a module of this package prints, in a process of its own."""
    command = [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_work_of_a_lost_node_is_done_by_the_others(
    tmp_path: Path, times: Callable[[int, int], int], tally: Callable[[str, bool], None]
) -> None:
    # Rules and base learners are jobs of one executor: the short form has one of them.
    stages, count = ["training", "search", "rules"][: times(2, 3)], times(1, 5)
    lines = run("three_nodes", count, tmp_path, *stages)
    losses = [json.loads(line) for line in lines if line.startswith("{")]
    assert [loss["stage"] for loss in losses] == [stage for stage in stages for _ in range(count)]
    for loss in losses:
        print(f"{loss['stage']}: done {loss['seconds']:.1f} s after the loss")
        tally(f"node lost during {loss['stage']}", loss["held"])
    # The node was at work when it was lost.
    assert any(": worker lost, another one takes its place" in line for line in lines)


def test_a_trial_with_too_much_memory_is_tried_twice_and_harms_no_other(
    tmp_path: Path, times: Callable[[int, int], int], tally: Callable[[str, bool], None]
) -> None:
    for number in range(times(1, 5)):
        folder = tmp_path / str(number)
        folder.mkdir()
        hungry, *others = json.loads(run("hungry_trial", folder)[-1])
        tried_twice = (folder / "tries").read_text() == "xx"
        failed = hungry["state"] == "FAILED" and "low on memory" in hungry["reason"]
        unchanged = [other["state"] for other in others] == ["COMPLETE", "COMPLETE"]
        tally("trial out of memory", tried_twice and failed and unchanged)
