"""Nodes that go without a word, and a trial that takes too much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def run(module: str, *arguments: object) -> list[str]:
    """The lines that a module of this package prints, in a process of its own."""
    command = [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.mark.parametrize("stage", ["training", "search", "rules"])
def test_the_work_of_a_lost_node_is_done_by_the_others(
    stage: str,
    tmp_path: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    lines = run("three_nodes", stage, times(1, 5), tmp_path)
    if stage == "rules":  # the node was at work when it went
        assert any("its worker died, another one takes its place" in line for line in lines)
    losses = [json.loads(line) for line in lines if line.startswith("{")]
    assert len(losses) == times(1, 5)
    for loss in losses:
        print(f"{stage}: done {loss['seconds']:.1f} s after the loss")
        tally(f"node lost during {stage}", loss["held"])


def test_a_trial_that_takes_too_much_memory_is_tried_twice_and_harms_no_other(
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
