"""A run directory on a file system that becomes full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENOUGH = 64  # MiB; a digits run at preset smoke leaves about 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(disk: Path, kibibytes: int) -> None:
    command = ["mount", "-o", f"remount,size={kibibytes}k", str(disk)]
    subprocess.run(command, check=True, capture_output=True)


def launch(disk: Path, *flags: str, fill_at: str = "never") -> tuple[int, str, str]:
    """Status, output and errors of a launch; the disk is full from a line of its output on."""
    command = [sys.executable, str(ROOT / "launch" / "cluster.py"), "--preset", "smoke"]
    command += ["--num-samples", "4", "--run-dir", str(disk / "run")]
    command += ["--mlflow-uri", "none", *flags]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(fill_at):
            fill(disk)
    _, errors = process.communicate(timeout=60)
    return process.returncode, "".join(lines), errors


def fill(disk: Path) -> None:
    """Leave no more than 8 KiB, while files come and go."""
    for _ in range(100):
        status = os.statvfs(disk)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        try:
            resize(disk, used // 1024 + 8)
        except subprocess.CalledProcessError:  # more is used by now
            continue
        return


@pytest.mark.parametrize(
    "fill_at", ["base learner 1/", "base learner 30/", "55 base", "trial 1", "refit of", "Table 3"]
)
def test_a_full_disk_is_one_line_and_the_same_command_continues(
    fill_at: str,
    small_disk: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    if times(0, 1) == 0 and fill_at != "trial 1":
        pytest.skip("in the full run")
    resize(small_disk, ENOUGH * 1024)
    status, out, errors = launch(small_disk, fill_at=fill_at)
    partial = list(small_disk.rglob(".partial-*"))
    one_line = errors.startswith("error: ") and errors.count("\n") == 1
    reported = "No space left on device" in errors
    print(status, errors)
    tally("disk full", status == 1 and one_line and reported and not partial)
    resize(small_disk, ENOUGH * 1024)
    status, out, errors = launch(small_disk, "--executor", "inline")
    assert (status, errors) == (0, "")
    assert "damaged" not in out
