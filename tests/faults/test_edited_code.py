"""Somebody edits distcel's files while a launch runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from distcel.search.kept import _file_name
from distcel.search.prepare import prepare
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialStore, best_trial
from launch import cluster

ROOT = Path(__file__).parents[2]
ON_WORKERS = ("learners", "networks", "training", "selection", "refit", "trained_network")
EDIT = "raise RuntimeError('edited')\n"


def test_a_launch_goes_on_with_the_code_that_it_began_with(tmp_path: Path) -> None:
    for package in ("distcel", "launch", "search_spaces"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "distcel" / ".#learners.py").symlink_to("who@where")  # an editor holds it
    flags = ("--preset", "smoke", "--num-samples", "2")
    launched = subprocess.Popen(
        [sys.executable, "launch/cluster.py", *flags],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launched.stdout is not None
    assert launched.stdout.readline().startswith("Ray: ")
    for name in ON_WORKERS:
        file = tmp_path / "distcel" / f"{name}.py"
        file.write_text(file.read_text().replace("\nimport ", f"\n{EDIT}import ", 1))
    out, error = launched.communicate(timeout=300)
    assert (launched.returncode, error) == (0, "")
    assert "55 base learners trained" in out
    (logged,) = (tmp_path / "runs" / "mlflow-artifacts").glob("*/artifacts/model/code/distcel")
    assert not any(EDIT in file.read_text() for file in logged.glob("*.py"))

    # Everything is kept under the keys of the code before the edit, which this process has.
    run_dir = tmp_path / "runs" / "digits-smoke-seed0"
    options = cluster.options(cluster.parser().parse_args([*flags, "--run-dir", str(run_dir)]))
    prepared = prepare(load_experiment("digits", "smoke"), options)
    assert all(
        prepared.cache.holds(*job) for job in zip(prepared.specs, prepared.keys, strict=True)
    )
    trials = TrialStore(prepared.search_folder / "trials").snapshot()
    assert [trial.state for trial in trials] == ["COMPLETE", "COMPLETE"]
    best = best_trial(trials)
    refit = _file_name(f"refit of trial {best.number}", SmartRule(best.params))
    assert (prepared.search_folder / "refit" / refit).is_file()
