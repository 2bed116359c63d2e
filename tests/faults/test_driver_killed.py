"""SIGKILL of the launch at random moments of one search."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]


class Launch:
    """A launch whose output is read as it comes."""

    def __init__(self, run_dir: Path, n_trials: int, *flags: str) -> None:
        command = [sys.executable, str(ROOT / "launch" / "cluster.py"), "--preset", "smoke"]
        command += ["--num-samples", str(n_trials), "--run-dir", str(run_dir), *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.run_dir, self.began = run_dir, time.time()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    def wait_for_a_trial(self, state: str) -> None:
        """Return once a trial of this launch is in that state, or the launch is over."""
        while self.process.poll() is None:
            for path in self.run_dir.glob("search/*/trials/*.json"):
                if path.stat().st_mtime > self.began and f'"{state}"' in path.read_text():
                    return
            time.sleep(0.02)

    def kill(self) -> bool:
        """Whether it still ran."""
        running = self.process.poll() is None
        self.process.kill()
        self.join()
        return running

    def join(self) -> int:
        self._reader.join()
        return self.process.wait()


def finished(run_dir: Path) -> dict[str, str]:
    """The records on disk of the trials that are acknowledged."""
    paths = run_dir.glob("search/*/trials/*.json")
    texts = {path.name: path.read_text() for path in paths}
    return {name: text for name, text in texts.items() if json.loads(text)["state"] != "RUNNING"}


def test_no_acknowledged_trial_is_lost_or_runs_again(
    tmp_path: Path, times: Callable[[int, int], int], tally: Callable[[str, bool], None]
) -> None:
    run_dir, moments, n_trials = tmp_path / "run", random.Random(0), times(8, 24)
    kills, began = 0, 0
    while kills < times(1, 20):  # the last ones, it may be, while the best trial is trained again
        before = finished(run_dir)
        launch = Launch(run_dir, n_trials)
        # Wherever it is; or about when trials run; or just when one is acknowledged.
        state = moments.choice([None, "RUNNING", "COMPLETE"])
        state = state if len(before) < n_trials else None
        if state is not None:
            launch.wait_for_a_trial(state)
        time.sleep(moments.uniform(0, 0.05 if state == "COMPLETE" else 2.5))
        if not launch.kill():
            continue
        kills += 1
        after = finished(run_dir)
        kept = {name: after.get(name) for name in before} == before
        again = [line for line in launch.lines if _number(line) in before]
        running = len(list(run_dir.glob("search/*/trials/*.json"))) - len(after)
        began += running
        at_once = len(os.sched_getaffinity(0))
        tally("SIGKILL of the driver", kept and not again and running <= at_once)

    before, started = finished(run_dir), time.monotonic()
    last = Launch(run_dir, n_trials, "--executor", "inline")
    assert last.join() == 0, "".join(last.lines)
    after = finished(run_dir)
    print(
        f"{kills} kills; {len(before)} of {n_trials} trials were acknowledged, {began} ran when "
        f"killed; the last launch took {time.monotonic() - started:.1f} s"
    )
    assert {name: after[name] for name in before} == before
    assert sorted(after) == [f"{number:05d}.json" for number in range(n_trials)]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("distcel digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(runs) == 1 + n_trials
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = [m.step for m in client.get_metric_history(run.info.run_id, "valid_loss")]
        assert steps == list(range(1, len(steps) + 1))


def _number(line: str) -> str | None:
    found = re.match(r"trial (\d+): valid", line)
    return f"{int(found[1]):05d}.json" if found else None
