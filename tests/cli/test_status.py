"""What `distcel status` shows of a run directory in each of its states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distcel.cli.main import main
from distcel.cli.run_status import read_status
from tests.cli.made_run import KEYS, PARAMS, SEARCH, MadeRun

TRAINED = ("train", "valid", "test")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["status", str(folder)]) == 0
    return capsys.readouterr().out


def test_base_learners_are_counted_once_all_their_files_are_there(made: MadeRun) -> None:
    made.begin()
    made.learner(KEYS[0])
    made.learner(KEYS[1], "train", "valid")  # its test predictions are missing
    made.learner("dd99")  # of an earlier recipe
    made.unfinished(KEYS[2])
    made.unfinished("dd98")
    status = read_status(made.path)
    assert status["stage"] == "base learners"
    assert status["learners"] == {"done": 1, "n": 3, "unfinished": 1}
    assert status["copies"] is None
    made.learner(KEYS[1])
    made.learner(KEYS[2])
    status = read_status(made.path)
    assert (status["stage"], status["learners"]["done"]) == ("search", 3)


def test_learners_of_a_holdout_have_predictions_of_it(made: MadeRun) -> None:
    made.begin("holdout")
    for key in KEYS:
        made.learner(key)
    assert read_status(made.path)["learners"]["done"] == 0
    for key in KEYS:
        made.learner(key, "holdout", "valid", "test")
    assert read_status(made.path)["learners"]["done"] == 3


def test_copies_of_a_crossfit_are_counted_on_their_own(
    made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    made.begin("crossfit", copies=2)
    for key in KEYS:
        made.learner(key)
    made.learner("cc01", "holdout")
    made.unfinished("cc11")
    status = read_status(made.path)
    assert status["stage"] == "copies"
    assert status["copies"] == {"done": 1, "n": 6, "unfinished": 1}
    text = shown(made.path, capsys)
    assert "base learners: 3 of 3 done\n" in text
    assert "copies: 1 of 6 done, 1 unfinished with a kept state\n" in text


def searching(made: MadeRun) -> None:
    made.begin()
    for key in KEYS:
        made.learner(key)
    made.trial(0, "COMPLETE", 0.5)
    made.trial(1, "FAILED", reason="the training loss became nan")
    made.trial(2, "COMPLETE", 0.75)


def test_trials_are_shown_with_reasons_and_the_best(
    made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    searching(made)
    made.trial(3, "RUNNING")
    status = read_status(made.path)
    assert status["stage"] == "search"
    assert status["trials"] == {
        "asked": 4,
        "complete": 2,
        "running": 1,
        "failed": [{"trial": 1, "reason": "the training loss became nan"}],
        "best": {"trial": 2, "valid_accuracy": 0.75, "params": PARAMS},
    }
    text = shown(made.path, capsys)
    assert text.startswith(f"{made.path}: folder, preset smoke, k = 2, seed 3\nstage: search, ")
    assert "trials: 2 of 4 complete, 1 interrupted, 1 failed\n" in text
    assert "  trial 1 failed: the training loss became nan\n" in text
    assert "best so far: trial 2, valid 0.7500, k=2 epsilon=0.25 m=7 lr=1 gradient=exact" in text
    assert "refit: not yet\nresults: not yet\n" in text


def test_the_earlier_of_two_equal_trials_is_the_best(made: MadeRun) -> None:
    searching(made)
    made.trial(3, "COMPLETE", 0.75)
    assert read_status(made.path)["trials"]["best"]["trial"] == 2


def test_refit_test_and_done_follow_the_search(made: MadeRun) -> None:
    searching(made)
    made.trial(3, "COMPLETE", 0.25)
    stages = [read_status(made.path)["stage"]]
    made.refit(0)  # of a trial that was the best before
    stages.append(read_status(made.path)["stage"])
    made.refit(2)
    stages.append(read_status(made.path)["stage"])
    made.results()
    status = read_status(made.path)
    assert [*stages, status["stage"]] == ["refit", "refit", "test", "done"]
    assert status["results"]["current"]
    assert status["results"]["e2e_cel"] == 0.75


def test_a_search_that_was_closed_early_is_over_until_more_is_asked(made: MadeRun) -> None:
    searching(made)
    made.close(asked=4)
    assert read_status(made.path)["stage"] == "refit"
    made.close(asked=3)
    assert read_status(made.path)["stage"] == "search"


@pytest.mark.parametrize("other", [{"n_trials": 3}, {"fixed": {}}, {"seed": 4}])
def test_results_of_another_launch_are_not_this_one_s(
    other: dict[str, Any], made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    searching(made)
    made.trial(3, "COMPLETE", 0.25)
    made.results(**other)
    assert read_status(made.path)["stage"] == "refit"
    assert "e2e-CEL 0.7500 on test, by an earlier launch" in shown(made.path, capsys)


def test_whether_a_launch_holds_it(made: MadeRun, capsys: pytest.CaptureFixture[str]) -> None:
    searching(made)
    assert read_status(made.path)["launch"]["running"] is False
    assert "not running: the last launch was pid 4194305 on " in shown(made.path, capsys)
    with made.lock_now():
        assert read_status(made.path)["launch"]["running"] is True
        assert "stage: search, running: pid " in shown(made.path, capsys)
    # This process is alive and has not the file open: the number was another process's before.
    assert read_status(made.path)["launch"]["running"] is False
    made.lock(host="another-machine")
    assert read_status(made.path)["launch"]["running"] is None
    assert "held by pid 4194305 on another-machine since " in shown(made.path, capsys)


def test_without_run_json_what_can_be_counted_is(
    made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    searching(made)
    made.learner("cc01", "holdout")
    (made.path / "run.json").unlink()
    status = read_status(made.path)
    assert status["what"] is None
    assert status["learners"] == {"done": 3, "n": None, "unfinished": 0}
    assert status["copies"]["done"] == 1
    assert (status["stage"], status["trials"]["asked"]) == ("search", None)
    text = shown(made.path, capsys)
    assert "base learners: 3 of ? done" in text
    assert "trials: 2 of ? complete" in text
    made.results(n_trials=3)
    status = read_status(made.path)
    assert (status["stage"], status["what"]["dataset"]) == ("done", "folder")
    assert status["learners"]["n"] == 3


def test_damage_is_shown_and_left_alone(made: MadeRun, capsys: pytest.CaptureFixture[str]) -> None:
    searching(made)
    damaged = made.trial(3, "COMPLETE", 0.99)
    damaged.write_text(damaged.read_text().replace("0.99", "0.98"))
    made.close().write_text("{}")
    (made.path / "learners" / "test" / "ant-aa09.arrow.damaged").write_bytes(b"")
    (made.path / "results.json").write_text("{")
    before = contents(made.path)
    text = shown(made.path, capsys)
    assert contents(made.path) == before
    assert f"damaged: search/{SEARCH}/trials/00003.json: its content does not match" in text
    assert f"damaged: search/{SEARCH}/trials/closed: its content does not match" in text
    assert "damaged: learners/test/ant-aa09.arrow.damaged, put aside\n" in text
    assert "damaged: results.json: it cannot be read" in text
    assert "trials: 2 of 4 complete, 1 failed" in text
    assert "stage: search, " in text


@pytest.mark.parametrize("name", ["run.json", "results.json", "lock"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"pid": "x"}', "[[" * 9000])
def test_any_content_of_a_file_is_survived(
    name: str, content: str, made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    searching(made)
    made.results()
    (made.path / name).write_text(content)
    assert "best so far: trial 2" in shown(made.path, capsys)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("search_key", "../../elsewhere"),
        ("search_key", 7),
        ("learners", ["aa01"]),
        ("copies", [[1]]),
        ("num_samples", "4"),
        ("fixed", None),
    ],
)
def test_a_run_json_that_no_launch_writes_is_damaged(
    field: str, value: object, made: MadeRun
) -> None:
    searching(made)
    made.write_json("run.json", {**made.facts(), field: value})
    status = read_status(made.path)
    assert "run.json: it does not describe a launch" in status["damaged"]
    assert status["learners"]["done"] == 3


@pytest.mark.parametrize(
    "change", [{"number": 7}, {"state": "LOST"}, {"epochs": []}, {"epochs": [3]}, {"params": 1}]
)
def test_a_record_of_no_trial_is_damaged(change: dict[str, Any], made: MadeRun) -> None:
    from distcel.storage.files import read_record, write_record

    searching(made)
    path = made.trial(3, "COMPLETE", 0.99)
    write_record(path, {**read_record(path), **change})
    status = read_status(made.path)
    assert f"search/{SEARCH}/trials/00003.json: it is not this trial" in status["damaged"]
    assert status["trials"]["best"]["trial"] == 2


def test_json_is_all_of_it(made: MadeRun, capsys: pytest.CaptureFixture[str]) -> None:
    searching(made)
    assert main(["status", str(made.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_status(made.path)


def test_a_run_that_has_only_just_begun_is_one(
    made: MadeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    made.path.mkdir()
    (made.path / "lock").touch()
    text = shown(made.path, capsys)
    assert "stage: base learners, no launch is known\nbase learners: 0 of ? done\n" in text


@pytest.mark.parametrize("name", ["missing", "empty", "reproduction", "file"])
def test_what_is_no_run_directory_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "reproduction").mkdir()
    (tmp_path / "reproduction" / "results.json").write_text('{"seeds": []}')
    assert main(["status", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected a run directory, but got ")
    assert error.count("\n") == 1


def test_it_needs_neither_torch_nor_ray(made: MadeRun) -> None:
    searching(made)
    made.results()
    code = (
        "import sys; from distcel.cli.main import main\n"
        f"status = main(['status', {str(made.path)!r}])\n"
        "print(status, {'torch', 'ray', 'mlflow', 'optuna', 'pyarrow'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.endswith("\n0 set()\n"), ran.stderr
