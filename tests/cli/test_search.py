"""What `distcel search` and `distcel reproduce` ask of the façade and print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.cli.flags import fixed_values
from distcel.cli.main import main, script
from distcel.cli.reproduce import without_uri
from distcel.cli.search import how_to_compare
from distcel.cli.signals import unwind_on_signals
from distcel.experiment.errors import InvalidInputError
from tests.cli.conftest import Calls

DEFAULTS = {
    "experiment": "digits",
    "preset": "quick",
    "data_dir": Path("data"),
    "num_samples": None,
    "time_budget": None,
    "fixed": {},
    "selector_split": "train",
    "imagenet_weights": "published",
    "mlflow_uri": None,
    "register": None,
}
OF_BOTH = [
    *("--dataset", "folder", "--preset", "smoke", "--data-dir", "photos", "--num-samples", "7"),
    *("--time-budget", "1.5", "--selector-split", "crossfit", "--fix", "k=3"),
    *("--fix", "gradient=exact", "--imagenet-weights", "none", "--address", "head:6379"),
    *("--register", "cel", "--mlflow-uri", "http://host:5000", "--gpus-per-worker", "0.5"),
]
CHOSEN = {
    "experiment": "folder",
    "preset": "smoke",
    "data_dir": Path("photos"),
    "num_samples": 7,
    "time_budget": 1.5,
    "fixed": {"k": 3, "gradient": "exact"},
    "selector_split": "crossfit",
    "imagenet_weights": "none",
    "mlflow_uri": "http://host:5000",
    "register": "cel",
}


def test_the_defaults_are_the_facade_s(calls: Calls) -> None:
    assert main(["search"]) == 0
    (asked,) = calls.fit
    workers = asked.pop("workers")
    assert asked == {**DEFAULTS, "run_dir": None, "seed": 0, "prune": False}
    assert (workers.executor, workers.address, workers.gpus_per_worker) == ("ray", None, 0.25)
    # ray.init puts a handler of its own in place, which these are to replace.
    assert workers.connected is unwind_on_signals


def test_every_flag_reaches_the_facade(calls: Calls) -> None:
    assert main(["search", *OF_BOTH, "--run-dir", "here", "--seed", "5", "--prune"]) == 0
    (asked,) = calls.fit
    workers = asked.pop("workers")
    assert asked == {**CHOSEN, "run_dir": Path("here"), "seed": 5, "prune": True}
    assert (workers.address, workers.gpus_per_worker) == ("head:6379", 0.5)
    assert main(["search", "--executor", "inline"]) == 0
    assert calls.fit[1]["workers"].executor == "inline"


def test_every_flag_of_a_reproduction_reaches_the_facade(calls: Calls, tmp_path: Path) -> None:
    own = ["--seeds", "2", "--beyond", "--gradients", "--results-dir", str(tmp_path / "a")]
    own += ["--results-pages", str(tmp_path / "b")]
    assert script("reproduce", "reproduce.py", [*OF_BOTH, *own]) == 0
    (asked,) = calls.reproduce
    assert asked.pop("workers").address == "head:6379"
    command = asked.pop("command")
    assert command.startswith("python launch/reproduce.py --dataset folder ")
    assert "--mlflow-uri" not in command
    assert asked == {
        **CHOSEN,
        "seeds": 2,
        "beyond": True,
        "gradients": True,
        "results_dir": tmp_path / "a",
        "results_pages": tmp_path / "b",
    }
    assert main(["reproduce"]) == 0
    asked = calls.reproduce[1]
    assert asked.pop("workers").executor == "ray"
    assert asked == {
        **DEFAULTS,
        "seeds": 3,
        "beyond": False,
        "gradients": False,
        "results_dir": None,
        "results_pages": None,
        "command": "distcel reproduce",
    }


def test_a_search_shows_the_log_and_closes_with_where_its_results_are(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["search"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["learner 1/1 cat: 0 s", "one line of an error"]
    assert lines[2].startswith(f"{calls.run_dir}/results.json after ")
    assert lines[3].startswith("compare runs: ")
    assert lines[3].endswith(f" --backend-store-uri sqlite:///{calls.run_dir.parent}/mlflow.db")
    assert main(["search", "--mlflow-uri", "none"]) == 0
    assert "compare runs" not in capsys.readouterr().out
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host")
    assert main(["search"]) == 0
    assert capsys.readouterr().out.endswith("compare runs: host, the MLflow server\n")


@pytest.mark.parametrize("command", ["search", "reproduce"])
def test_json_is_alone_on_stdout(
    command: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (calls.run_dir / "results.json").read_text()
    assert json.loads(shown.out) == {"n_trials": 1}
    assert shown.err.startswith("learner 1/1 cat: 0 s\n")
    assert main([command, "--json", "-q"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"n_trials": 1}
    assert shown.err == "one line of an error\n"


@pytest.mark.parametrize("command", ["search", "reproduce"])
def test_quiet_is_warnings_errors_and_the_report(
    command: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--quiet"]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("one line of an error\n# the report\n\na table\n", "")
    (asked,) = calls.fit if command == "search" else calls.reproduce
    assert asked["workers"].ray_log is False


@pytest.mark.parametrize("command", ["search", "reproduce"])
def test_verbose_is_every_epoch_and_ray_s_own_log(
    command: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "-v"]) == 0
    assert capsys.readouterr().out.startswith("cat: epoch 1\nlearner 1/1 cat: 0 s\n")
    (asked,) = calls.fit if command == "search" else calls.reproduce
    assert asked["workers"].ray_log is True
    with pytest.raises(SystemExit) as stopped:
        main([command, "-v", "-q"])
    assert stopped.value.code == 2
    line = "error: argument -q/--quiet: not allowed with argument -v/--verbose: "
    assert capsys.readouterr().err.startswith(line)


# Logs into a pipe whose reader has gone: from a thread, which is no matter, then from the launch.
LOGGING = """
import logging, sys, threading
from distcel.cli.exit_status import exit_status
from distcel.cli.output import show_log

def run():
    show_log()
    logger = logging.getLogger("distcel.search")
    thread = threading.Thread(target=logger.info, args=("from a thread",))
    thread.start()
    thread.join()
    try:
        logger.info("a line")
    except Exception:
        print("Ray Tune would have swallowed it", file=sys.stderr)
    return 0

sys.exit(exit_status(run))
"""


def test_a_log_whose_reader_has_gone_stops_the_launch() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", LOGGING]
    ran = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (128 + 13, "")


def test_values_that_are_fixed_have_their_own_types() -> None:
    pairs = ["k=3", "epsilon=1", "m=5", "lr=1e-3", "gradient=exact", "vote=learned"]
    fixed = fixed_values(pairs)
    expected = {"k": 3, "epsilon": 1.0, "m": 5, "lr": 1e-3, "gradient": "exact", "vote": "learned"}
    assert fixed == expected
    assert [type(value) for value in fixed.values()] == [int, float, int, float, str, str]
    with pytest.raises(InvalidInputError, match=r"expected a whole number as m, but got '1\.5'"):
        fixed_values(["m=1.5"])


def test_a_tracking_uri_is_in_nothing_that_is_written_down() -> None:
    assert how_to_compare("http://me:secret@host:5000/path") == "host, the MLflow server"
    words = ["--seeds", "2", "--mlflow-uri", "http://me:secret@host", "--preset", "smoke"]
    assert without_uri(words) == "--seeds 2 --preset smoke"
    assert without_uri(["--mlflow-uri=http://me:secret@host", "--beyond"]) == "--beyond"
    assert without_uri(["--m", "x"]) == "--m x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "expected a whole number --seeds >= 1, but got 0"),
        (["--fix", "vote=learned"], "expected a comparison without vote fixed to learned, but got"),
        (["--dataset", "nope"], "--dataset in"),
        (["--results-dir", "/dev/null"], "--results-dir that can be written"),
        (["--results-dir", "/proc"], "--results-dir that can be written"),
        (["--results-pages", "/dev/null"], "--results-pages that can be written"),
        (
            ["--beyond", "--selector-split", "holdout"],
            "expected a comparison without beyond, or without selector split holdout, but got",
        ),
        (["--selector-split", "nope"], "--selector-split in"),
        (["--executor", "nope"], "--executor in"),
    ],
)
def test_bad_input_of_a_reproduction_is_one_line(
    arguments: list[str], message: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert calls.reproduce == []


@pytest.mark.parametrize("flag", ["--seed", "--run-dir", "--dry-run", "--results-file"])
def test_a_reproduction_has_no_flags_of_one_seed(
    flag: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["reproduce", flag, "3"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: unrecognized arguments: {flag} 3: ")
