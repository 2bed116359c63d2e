"""Somebody edits distcel's files while a search runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from distcel.data.tables import read_samples
from distcel.storage.provenance import source_digest

ROOT = Path(__file__).parents[2]
EDIT = "raise RuntimeError('edited')\n"


def test_a_search_goes_on_with_the_code_that_it_began_with(tmp_path: Path) -> None:
    for folder in ("distcel", "launch", "search_spaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "distcel" / "train" / ".#learner.py").symlink_to("who@where")  # an editor holds it
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
    edited = list((tmp_path / "distcel").rglob("[!.]*.py"))
    for file in edited:
        file.write_text(EDIT + file.read_text())
    out, error = launched.communicate(timeout=300)
    assert error[-800:] == ""
    assert launched.returncode == 0
    assert "55 base learners trained" in out

    # MLflow has the model with the code before the edit, which this process has imported too.
    (logged,) = (tmp_path / "runs" / "mlflow-artifacts").glob("*/artifacts/model/code/distcel")
    copied = {path.relative_to(logged) for path in logged.rglob("*.py")}
    assert copied >= {path.relative_to(tmp_path / "distcel") for path in edited}
    assert not any(EDIT in file.read_text() for file in logged.rglob("*.py"))
    run_dir = tmp_path / "runs" / "digits-smoke-seed0"
    assert json.loads((run_dir / "results.json").read_text())["n_trials"] == 2
    for column, folder in (("image", "data"), ("probabilities", "learners/test")):
        for path in (run_dir / folder).glob("*.arrow"):
            assert read_samples(path, column).metadata["source_digest"] == source_digest()
