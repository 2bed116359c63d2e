"""--dry-run, which prints what would be trained and writes nothing."""

import re
from pathlib import Path

import pytest

from distcel.cli.main import main


def test_a_dry_run_prints_what_would_run_and_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["search", "--dry-run", "--num-samples", "7"]) == 0
    text = capsys.readouterr().out
    assert "data: digits, 10 classes, 1149 train, 288 valid, 360 test, before duplicates" in text
    assert "trained in float32: base learners and selection net" in text
    assert "55 of lenet" in text
    assert "7 trials of at most 10 epochs" in text
    assert "(mean of exact; m = 1)" in text
    assert re.search(r"in all: \d+\.\d min on \d+ workers", text)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    for executor, workers in (("inline", "on 1 worker,"), ("ray", "on 2 workers,")):
        assert main(["search", "--dry-run", "--executor", executor]) == 0
        assert workers in capsys.readouterr().out


def test_a_dry_run_refuses_a_tracking_uri_as_a_launch_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["search", "--dry-run", "--mlflow-uri", "./mlruns"]) == 2
    assert "an MLflow URI beginning with" in capsys.readouterr().err


def test_a_dry_run_measures_what_is_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--dry-run", "--fix", "gradient=conditional", "--fix", "m=5"]
    assert main(["search", *flags]) == 0
    assert "(mean of conditional; m = 5)" in capsys.readouterr().out


def test_a_dry_run_counts_the_copies_and_what_the_selection_net_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def numbers(selector_split: str, pattern: str) -> list[int]:
        assert main(["search", "--dry-run", "--selector-split", selector_split]) == 0
        return [int(found) for found in re.findall(pattern, capsys.readouterr().out)]

    per_epoch = r"(\d+) samples an epoch"
    (learners,) = numbers("train", per_epoch)
    assert numbers("holdout", per_epoch) == [pytest.approx(0.8 * learners, rel=0.01)]
    assert numbers("crossfit", per_epoch) == [learners, pytest.approx(2 * learners, rel=0.01)]
    assert numbers("crossfit", r"without a fold: (\d+)") == [165]
    assert numbers("train", r"epochs on (\d+) samples") == [1149]
    assert numbers("holdout", r"epochs on (\d+) samples") == [230]
    assert numbers("crossfit", r"epochs on (\d+) samples") == [1149]


def test_a_dry_run_refuses_what_a_launch_has_no_memory_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sysconf", lambda _: 1000)  # a thousand pages of a thousand bytes
    assert main(["search", "--dry-run"]) == 2
    assert "error: expected predictions within half of the memory" in capsys.readouterr().err
