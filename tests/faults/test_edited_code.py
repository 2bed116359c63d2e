"""Somebody edits distcel's files while a launch runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ON_WORKERS = ("learners", "networks", "training", "selection", "refit", "trained_network")
EDIT = "raise RuntimeError('edited')\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the packages, to be edited."""
    for package in ("distcel", "launch", "search_spaces"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "distcel" / ".#learners.py").symlink_to("who@where")  # an editor holds it
    return tmp_path


def started(checkout: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def made(checkout: Path) -> set[Path]:
    """What no launch makes a second time."""
    run_dir = checkout / "runs" / "digits-smoke-seed0"
    return {path for name in ("learners", "search") for path in (run_dir / name).rglob("*.*")}


def test_a_launch_goes_on_with_the_code_that_it_began_with(checkout: Path) -> None:
    command = ("launch/cluster.py", "--preset", "smoke", "--num-samples", "2")
    first = started(checkout, *command)
    assert first.stdout is not None
    assert first.stdout.readline().startswith("Ray: ")
    files = [checkout / "distcel" / f"{name}.py" for name in ON_WORKERS]
    before = [file.read_text() for file in files]
    for file, text in zip(files, before, strict=True):
        file.write_text(text.replace("\nimport ", f"\n{EDIT}import ", 1))
    out, error = first.communicate(timeout=300)
    assert (first.returncode, error) == (0, "")
    assert "55 base learners trained" in out
    (logged,) = (checkout / "runs" / "mlflow-artifacts").glob("*/artifacts/model/code/distcel")
    assert not any(EDIT in file.read_text() for file in logged.glob("*.py"))

    for file, text in zip(files, before, strict=True):
        file.write_text(text)
    everything = made(checkout)
    again = started(checkout, *command)
    out, error = again.communicate(timeout=300)
    assert (again.returncode, error) == (0, "")
    assert "0 base learners trained, 55 from the cache" in out
    assert made(checkout) == everything
