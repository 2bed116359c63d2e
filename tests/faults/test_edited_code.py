"""Somebody edits distcel's files while a launch runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import distcel

ROOT = Path(__file__).parents[2]
EDIT = "raise RuntimeError('edited')\n"


def test_a_launch_goes_on_with_the_code_that_it_began_with(tmp_path: Path) -> None:
    for package in ("distcel", "launch", "search_spaces"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "distcel" / "train" / ".#loop.py").symlink_to("who@where")  # an editor holds it
    launched = subprocess.Popen(
        [sys.executable, "launch/cluster.py", "--preset", "smoke", "--num-samples", "2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert launched.stdout is not None
    assert launched.stdout.readline().startswith("Ray: ")
    for file in (tmp_path / "distcel").rglob("[!.]*.py"):
        file.write_text(EDIT)  # from now on whoever imports it, here or on a worker, fails
    out, errors = launched.communicate(timeout=300)
    assert (launched.returncode, errors) == (0, "")
    assert "55 base learners trained" in out
    (logged,) = (tmp_path / "runs" / "mlflow-artifacts").glob("*/artifacts/model/code/distcel")
    texts = [file.read_text() for file in logged.rglob("*.py")]
    assert len(texts) > 50
    assert EDIT not in texts
    records = distcel.load_run(tmp_path / "runs" / "digits-smoke-seed0").trials()
    assert list(records["state"]) == ["COMPLETE", "COMPLETE"]
