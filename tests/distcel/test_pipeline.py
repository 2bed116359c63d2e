from pathlib import Path

from distcel import pipeline


def test_run_directories_tell_their_searches_apart(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    first, second = pipeline._own_id(tmp_path / "a"), pipeline._own_id(tmp_path / "b")
    assert first != second
    (tmp_path / "a").rename(tmp_path / "moved")
    assert pipeline._own_id(tmp_path / "moved") == first
