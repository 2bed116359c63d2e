import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.experiment.errors import InvalidInputError, RunFailedError
from distcel.storage.lock import run_lock

_HOLD = """
import sys
from pathlib import Path
from distcel.storage.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    message = "expected .* file system can lock files, but got .*No locks available"
    with pytest.raises(InvalidInputError, match=message), run_lock(tmp_path):
        pass


@pytest.mark.parametrize("then", ["removed", "replaced", "intact"])
def test_an_error_in_a_directory_that_was_removed_names_that(then: str, tmp_path: Path) -> None:
    def launch(run_dir: Path) -> None:
        with run_lock(run_dir):
            if then != "intact":
                shutil.rmtree(run_dir)
            if then == "replaced":
                with run_lock(run_dir):
                    pass
            (run_dir / "search" / "trial").read_bytes()

    if then == "intact":
        with pytest.raises(FileNotFoundError):
            launch(tmp_path / "run")
        return
    with pytest.raises(RunFailedError, match="run was removed or replaced while the launch ran"):
        launch(tmp_path / "run")


def test_the_holder_is_named_and_its_death_lets_go(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InvalidInputError, match=f'"pid": {holder.pid}'), run_lock(tmp_path):
        pass
    holder.kill()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with run_lock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    with run_lock(tmp_path):
        pass
