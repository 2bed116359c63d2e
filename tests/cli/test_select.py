"""`distcel select`, and `distcel predict` of what it trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distcel.cli.main import main

CLASSES = ("ant", "bee")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 samples in two classes; `sure` is right nine times of ten, `odd` half of the time."""
    folder, random = tmp_path_factory.mktemp("select"), np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    truth = [f"s{i},{CLASSES[c]}" for i, c in enumerate(labels)]
    (folder / "truth.csv").write_text("\n".join(["sample_id,label", *truth]))
    (folder / "answers").mkdir()
    for name, right in (("sure", 0.9), ("odd", 0.5)):
        given = np.where(random.random(200) < right, labels, 1 - labels)
        confidence = random.uniform(0.6, 0.9, 200).round(3)
        rows = [
            f"s{i},{CLASSES[c]},{q}" for i, (c, q) in enumerate(zip(given, confidence, strict=True))
        ]
        text = "\n".join(["sample_id,label,confidence", *rows])
        (folder / "answers" / f"{name}.csv").write_text(text)
    (folder / "prices.json").write_text('{"sure": 2, "odd": 1}')
    return folder


def _flags(folder: Path) -> list[str]:
    flags = ["--predictions", str(folder / "answers"), "--truth", str(folder / "truth.csv")]
    return [*flags, "--executor", "inline", "--mlflow-uri", "none"]


@pytest.fixture(scope="module")
def run_dir(folder: Path) -> Path:
    own = ["--always", "odd", "--prices", str(folder / "prices.json"), "--num-samples", "1"]
    out = ["--run-dir", str(folder / "run"), "-q"]
    assert main(["select", *_flags(folder), *own, *out]) == 0
    return folder / "run"


def test_the_report_names_predictors_and_prices(run_dir: Path) -> None:
    report = (run_dir / "report.md").read_text()
    for text in (
        "Mean price of a sample on test",
        "Accuracy over price",
        "| sure ",
        "Who is asked",
        "| shuffled  ",
        "Shuffled is the vote",
    ):
        assert text in report
    assert "Table 1" not in report
    page = (run_dir / "report.html").read_text()
    assert "Accuracy over price" in page
    assert "distcel select --predictions DIR --truth TRUTH --always odd --prices PRICES" in page


def test_status_of_a_search_has_nothing_to_train(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (begun := tmp_path / "begun").mkdir()
    (begun / "run.json").write_bytes((run_dir / "run.json").read_bytes())
    assert main(["status", str(begun)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("stage: search")
    assert lines[2] == "base learners: 2 of 2 done"


def test_predict_combines_the_answers(
    run_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = ["--predictions", str(folder / "answers")]
    assert main(["predict", str(run_dir), *answers, "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["sample"] for one in found] == [f"s{i}" for i in range(200)]
    labels = [line.split(",")[1] for line in (folder / "truth.csv").read_text().splitlines()[1:]]
    right = np.mean([one["class"] == label for one, label in zip(found, labels, strict=True)])
    assert right > 0.8
    assert {voter["name"] for one in found for voter in one["learners"]} == {"odd", "sure"}


def test_predict_says_whom_to_ask_before_they_have_answered(
    run_dir: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (alone := folder / "alone").mkdir()
    (alone / "odd.csv").write_bytes((folder / "answers" / "odd.csv").read_bytes())
    asked = []
    for answers in (alone, folder / "answers"):
        assert main(["predict", str(run_dir), "--predictions", str(answers), "--ask"]) == 0
        asked.append(capsys.readouterr().out.splitlines())
    assert asked[0] == asked[1]
    assert any(line.endswith(": odd sure") for line in asked[0])
    # Whoever has not answered is not selected.
    assert main(["predict", str(run_dir), "--predictions", str(alone), "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {voter["name"] for one in found for voter in one["learners"]} == {"odd"}


def test_predict_reads_an_array_as_it_reads_tables(
    run_dir: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [line.split(",")[1:] for line in (folder / "answers" / "sure.csv").open()][1:]
    probs = np.zeros((200, 2, 2), np.float32)  # the classes of the second are ant and bee
    for s, (label, confidence) in enumerate(rows):
        probs[s, 0] = 1 - float(confidence)
        probs[s, 0, CLASSES.index(label)] = float(confidence)
    probs[:, 1, 0] = 1
    np.savez(tmp_path / "all.npz", predictions=probs, names=["sure", "odd"])
    (tables := tmp_path / "tables").mkdir()
    (tables / "sure.csv").write_bytes((folder / "answers" / "sure.csv").read_bytes())
    always = [f"s{s},1,0" for s in range(200)]
    (tables / "odd.csv").write_text("\n".join(["sample_id,ant,bee", *always]))
    printed = []
    for given in (tmp_path / "all.npz", tables):
        assert main(["predict", str(run_dir), "--predictions", str(given), "--explain"]) == 0
        printed.append(capsys.readouterr().out.replace("\ns", "\n"))
    assert "0: " in printed[0]
    assert printed[0] == printed[1].removeprefix("s")
    np.save(tmp_path / "unnamed.npy", probs)  # its predictors are p0 and p1
    assert main(["predict", str(run_dir), "--predictions", str(tmp_path / "unnamed.npy")]) == 2
    assert "predictors among ['odd', 'sure'], but got ['p0', 'p1']" in capsys.readouterr().err


def test_predict_refuses_features_that_the_net_does_not_see(
    run_dir: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "numbers.npy", np.zeros((200, 3)))
    given = ["--predictions", str(folder / "answers"), "--features", str(tmp_path / "numbers.npy")]
    assert main(["predict", str(run_dir), *given]) == 2
    error = capsys.readouterr().err
    assert "sees the answers alone" in error
    assert len(error.splitlines()) == 1


def test_a_dry_run_checks_and_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--run-dir", str(tmp_path / "run"), "--dry-run", "--num-samples", "3"]
    assert main(["select", *_flags(folder), "--always", "odd", *out]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data: answers, 2 classes, 80 train, 20 valid, 100 test"
    assert lines[1] == "predictors: odd, sure; always asked: odd"
    assert lines[3].startswith("search: 3 trials of at most 120 epochs on 80 samples, ")
    assert main(["select", *_flags(folder), "--always", "odd", *out, "--fix", "k=5"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--budget", "-1"], "--budget"),
        (["--shares", "1,2"], "three numbers as --shares"),
        (["--shares", "0.5,0.5,0.5", "--always", "odd"], "sum to 1"),
        (["--always", "nobody"], "always-asked predictors among"),
        ([], "something that the selection net sees"),
        (["--always", "odd", "--always", "sure"], "a predictor that is not always asked"),
        (["--always", "odd", "--fix", "k=5"], "1 <= k <= n"),
        (["--always", "odd", "--fix", "vote=sum"], "no vote among what is fixed"),
        (["--always", "odd", "--fix", "k=any"], "give k a number"),
        (["--always", "odd", "--num-samples", "0"], "--num-samples"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = ["--run-dir", str(folder / "refused")]
    assert main(["select", *_flags(folder), *refused, *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["photo.png", "--predictions", "answers"], "image files, or --predictions"),
        ([], "image files, or --predictions"),
        (["photo.png", "--ask"], "--predictions beside --ask"),
    ],
)
def test_predict_takes_images_or_answers(
    flags: list[str], line: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run_dir), *flags]) == 2
    assert line in capsys.readouterr().err
