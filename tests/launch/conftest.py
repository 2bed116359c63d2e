"""Launches that run once for all tests that use their results."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BY_A_KILL = Path("runs/digits-quick-seed0/learners/weights/.partial-of-a-killed-launch")


def command_line(script: str, *arguments: object) -> list[str]:
    """One of the two scripts, as a user runs it."""
    return [sys.executable, str(ROOT / "launch" / script), *map(str, arguments)]


def launch(
    script: str, *arguments: object, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in the folder."""
    command = command_line(script, *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=folder)


@pytest.fixture(scope="session")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run directory, and the log of two launches, of which the second has --json as well."""
    folder = tmp_path_factory.mktemp("launched")
    outputs = []
    for flags in ((), ("--json", "--executor", "inline")):
        (folder / LEFT_BY_A_KILL).parent.mkdir(parents=True, exist_ok=True)
        (folder / LEFT_BY_A_KILL).touch()
        ran = launch("cluster.py", *flags, folder=folder)
        log, other = (ran.stderr, ran.stdout) if flags else (ran.stdout, ran.stderr)
        results = folder / "runs" / "digits-quick-seed0" / "results.json"
        assert (ran.returncode, other) == (0, results.read_text() if flags else "")
        outputs.append(log)
    return folder / "runs" / "digits-quick-seed0", outputs


@dataclass(frozen=True)
class CrossFitted:
    """A brief reproduction with cross-fitted predictions and every flag that trains more."""

    runs: Path
    output: str


@pytest.fixture(scope="session")
def cross_fitted(tmp_path_factory: pytest.TempPathFactory) -> CrossFitted:
    folder = tmp_path_factory.mktemp("crossfit")
    flags = ["--preset", "smoke", "--selector-split", "crossfit", "--executor", "inline"]
    flags += ["--seeds", "1", "--beyond", "--gradients"]
    ran = launch("reproduce.py", *flags, folder=folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    return CrossFitted(folder / "runs", ran.stdout)
