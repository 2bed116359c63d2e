from pathlib import Path

import pytest

from distcel.tracking import track


def test_run_directories_tell_their_searches_apart(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = track._own_id(tmp_path / "a"), track._own_id(tmp_path / "b")
    assert first != second
    (tmp_path / "a").rename(tmp_path / "moved")
    assert track._own_id(tmp_path / "moved") == first


@pytest.mark.parametrize("content", [b"", b"0123456789abcdeg", b"\xff" * 16, b"0" * 17])
def test_a_damaged_id_is_put_aside_and_made_again(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "id").write_bytes(content)
    made = track._own_id(tmp_path)
    assert "put aside as id.damaged" in caplog.text
    caplog.clear()
    assert (tmp_path / "id.damaged").read_bytes() == content
    assert track._own_id(tmp_path) == made
    assert caplog.text == ""
