import json
from pathlib import Path

import pytest

from distcel.experiment.errors import InvalidInputError
from distcel.storage.ledger import ledger_path, record_reading, require_ledger


def test_every_reading_is_appended_with_its_date_and_key(tmp_path: Path) -> None:
    path = ledger_path(tmp_path / "runs" / "digits-quick-seed0", "digits")
    assert path == tmp_path / "runs" / "test-readings-digits.jsonl"
    path.parent.mkdir()
    assert [record_reading(path, "split", {"key": key}) for key in "abb"] == [1, 2, 3]
    assert record_reading(path, "another", {"key": "c"}) == 1
    assert record_reading(path, "split", {"key": "a"}) == 4
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["key"] for line in lines] == ["a", "b", "b", "c", "a"]
    assert all(line["date"].endswith("+00:00") for line in lines)


def test_a_ledger_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    require_ledger(path)
    assert path.read_bytes() == b""
    with pytest.raises(
        InvalidInputError, match=r"beside the run directory, but got .*directory"
    ) as e:
        require_ledger(tmp_path)
    assert "\n" not in str(e.value)


def test_a_damaged_line_counts_as_a_reading(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    record_reading(path, "split", {})
    path.write_bytes(path.read_bytes()[:-9] + b"\xff\n[]\n\n")
    assert record_reading(path, "split", {}) == 3
