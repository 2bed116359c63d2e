import shutil
import socket
from pathlib import Path

import pytest

from distcel.storage.files import read_record, write_record
from distcel.storage.identity import own_id


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def elsewhere(run_dir: Path, **changes: object) -> None:
    """Change what the id's file has of the place that it was written at."""
    record = read_record(run_dir / "id")
    write_record(run_dir / "id", {**record, **changes})


def test_a_run_directory_keeps_its_id_and_shares_it_with_no_other(
    run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    assert own_id(run_dir) == own_id(run_dir) != own_id(tmp_path / "other")


def test_a_moved_one_keeps_its_id(run_dir: Path, tmp_path: Path) -> None:
    first = own_id(run_dir)
    run_dir.rename(tmp_path / "moved")
    assert own_id(tmp_path / "moved") == first
    shutil.copytree(tmp_path / "moved", run_dir)  # as `mv` does between file systems
    shutil.rmtree(tmp_path / "moved")
    assert own_id(run_dir) == first
    elsewhere(run_dir, inode=0)  # as a file system may number it anew when it is mounted
    assert own_id(run_dir) == first
    elsewhere(run_dir, host="a container that is gone", path="/runs/run")
    assert own_id(run_dir) == first


def test_a_copy_gets_an_id_of_its_own(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, copy = own_id(run_dir), tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    assert caplog.text == ""
    second = own_id(copy)
    assert second != first
    assert "copy is a copy" in caplog.text
    assert (own_id(copy), own_id(run_dir)) == (second, first)
    elsewhere(run_dir, host=f"not {socket.gethostname()}", inode=0)  # as rsync brings it
    assert own_id(run_dir) != first


def test_the_bare_id_of_an_earlier_version_is_kept(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_dir / "id").write_bytes(b"0123456789abcdef")
    assert own_id(run_dir) == own_id(run_dir) == "0123456789abcdef"
    assert caplog.text == ""
    shutil.copytree(run_dir, tmp_path / "copy")
    assert own_id(tmp_path / "copy") != "0123456789abcdef"


@pytest.mark.parametrize("content", [b"", b"0123456789abcdeg", b"\xff" * 16, b"{}"])
def test_a_damaged_id_is_put_aside_and_made_again(
    content: bytes, run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_dir / "id").write_bytes(content)
    made = own_id(run_dir)
    assert "put aside as id.damaged" in caplog.text
    caplog.clear()
    assert (run_dir / "id.damaged").read_bytes() == content
    assert own_id(run_dir) == made
    assert caplog.text == ""
