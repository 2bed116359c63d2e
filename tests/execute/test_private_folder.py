"""Ray's files are in a folder that other users of the machine cannot enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from distcel.execute.private_folder import keep, private_folder
from distcel.experiment.errors import InvalidInputError
from tests.faults.observed import can_another_user_write


@pytest.fixture(autouse=True)
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that everybody may enter, with a short path."""
    with TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become another user")
def test_another_user_cannot_write_where_ray_lets_everybody() -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (ray := folder / "r").mkdir()
        ray.chmod(0o777)  # as Ray does
        assert not can_another_user_write(ray)
        folder.chmod(0o755)
        assert can_another_user_write(ray)


def test_it_is_removed_unless_it_is_kept(parent: Path) -> None:
    with private_folder() as removed, private_folder() as kept:
        keep(kept)
    assert [removed.exists(), kept.exists()] == [False, True]
    kept.rmdir()


def test_that_of_a_killed_launch_is_removed_and_that_of_a_running_one_is_not(parent: Path) -> None:
    child = os.fork()
    if child == 0:
        context = private_folder()
        context.__enter__()
        os._exit(0)  # without the end of the context, as by SIGKILL
    os.waitpid(child, 0)
    (abandoned,) = parent.iterdir()
    with private_folder() as running, private_folder() as another:
        assert {*parent.iterdir()} == {running, another}
        assert abandoned not in (running, another)


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 60, "/tmp/missing"])
def test_a_folder_that_ray_cannot_use_is_one_line(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", path)
    with pytest.raises(InvalidInputError, match="bytes as RAY_TMPDIR, but got"), private_folder():
        pass
