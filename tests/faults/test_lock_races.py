"""Launches that lock one run directory at the same moment."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_REACH = """
import sys, time
from pathlib import Path
from distcel.storage.lock import run_lock
from distcel.experiment.errors import InvalidInputError
print("ready", flush=True)
first = float(sys.stdin.readline())
for race in range(int(sys.argv[2])):
    folder = Path(sys.argv[1]) / str(race)
    time.sleep(max(0, first + race * 0.5 - time.time()))
    try:
        with run_lock(folder):
            print("held", flush=True)
            time.sleep(0.3)
    except InvalidInputError as error:
        print(error, flush=True)
"""


def test_of_two_launches_at_once_exactly_one_runs_and_is_named(
    tmp_path: Path, times: Callable[[int, int], int], tally: Callable[[str, bool], None]
) -> None:
    races = times(10, 50)
    for race in range(races):  # left by a launch that died on this machine
        (tmp_path / str(race)).mkdir()
        dead = {"pid": 2**22 + 1, "host": socket.gethostname()}
        (tmp_path / str(race) / "lock").write_text(json.dumps(dead))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _REACH, str(tmp_path), str(races)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = f"{time.time() + 0.2}\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write(start)
        process.stdin.flush()
    first, second = (process.communicate(timeout=120)[0].splitlines() for process in both)
    assert len(first) == len(second) == races
    for lines in zip(first, second, strict=True):
        winner = [process for process, line in zip(both, lines, strict=True) if line == "held"]
        named = len(winner) == 1 and any(f'"pid": {winner[0].pid}' in line for line in lines)
        tally("two launches at once", named)
