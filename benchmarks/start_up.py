"""Start-up: whole processes, from the command to its end.

    python -m benchmarks.start_up

`ray.init` starts Ray with its dashboard in a fresh process and ends it, for comparison.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import in_turns, table

CLUSTER = str(Path(__file__).parents[1] / "launch" / "cluster.py")
RAY = "import ray; ray.init(address='local', include_dashboard=True, log_to_driver=False)"
REPETITIONS = 5


def _whole(*command: str) -> None:
    subprocess.run([sys.executable, *command], capture_output=True, check=True)


def _seconds_to_the_first_learner() -> tuple[float, float]:
    """From the command to the line that Ray is up, and to the first trained learner's."""
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, CLUSTER, "--preset", "smoke", "--run-dir", f"{folder}/run"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdout is not None
        seconds = {}
        for line in process.stdout:
            for begin in ("Ray: ", "base learner 1/"):
                if line.startswith(begin):
                    seconds[begin] = time.perf_counter() - started
            if len(seconds) == 2:
                process.terminate()
                break
        process.communicate()
    return seconds["Ray: "], seconds["base learner 1/"]


def report() -> str:
    """The table, as Markdown."""
    runs = {
        "`--help` (0.5 s)": lambda: _whole(CLUSTER, "--help"),
        "`--dry-run` (5 s)": lambda: _whole(CLUSTER, "--dry-run"),
        "`ray.init`": lambda: _whole("-c", RAY),
    }
    times = in_turns(runs, REPETITIONS)
    rows = [
        [name, f"{t.median:.2f}", f"{min(t.seconds):.2f} to {max(t.seconds):.2f}"]
        for name, t in times.items()
    ]
    for name, seconds in zip(
        ("launch until Ray is up", "launch until the first learner is trained"),
        zip(*(_seconds_to_the_first_learner() for _ in range(REPETITIONS)), strict=True),
        strict=True,
    ):
        ordered = sorted(seconds)
        middle = ordered[len(ordered) // 2]
        rows.append([name, f"{middle:.2f}", f"{ordered[0]:.2f} to {ordered[-1]:.2f}"])
    return table(["what (target)", "median s", "spread"], rows)


if __name__ == "__main__":
    print(report())
