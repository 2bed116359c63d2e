"""What a user gets wrong at the command line."""

from pathlib import Path

import pytest
import ray

from distcel.cli.main import main
from distcel.execute.cluster import connect
from distcel.experiment.errors import InvalidInputError
from tests import made_data as data


def _ants(folder: Path) -> None:
    data.write_images(folder, ("ant",), 5, 3, 20, 0)


def _unreadable(folder: Path) -> None:
    data.write_images(folder, ("ant", "bee"), 20, 3, 20, 0)
    (folder / "bee" / "0007.png").write_bytes(b"not an image")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fix", "k=0"], "expected a whole number k >= 1, but got 0"),
        (["--fix", "k=56"], "expected 1 <= k <= n = 55, but got 56"),
        (["--fix", "k=ten"], "expected a whole number as k, but got 'ten'"),
        (["--fix", "epsilon=0"], "expected 0 < epsilon < infinity, but got 0.0"),
        (["--fix", "epsilon=nan"], "expected 0 < epsilon < infinity, but got nan"),
        (["--fix", "lr=-1"], "expected 0 < lr < infinity, but got -1.0"),
        (["--fix", "m=0"], "expected a whole number m >= 1, but got 0"),
        (["--fix", "gradient=guess"], "gradients in"),
        (["--fix", "vote=loud"], "votes in"),
        (["--fix", "temperature=1"], "--fix NAME in"),
        (["--dataset", "imagenet"], "--dataset in"),
        (["--preset", "slow"], "--preset in"),
        (["--num-samples", "0"], "whole number --num-samples >= 1"),
        (["--time-budget", "-5"], "0 < --time-budget < infinity"),
        (["--time-budget", "nan"], "0 < --time-budget < infinity"),
        (["--gpus-per-worker", "0"], "0 < --gpus-per-worker < infinity"),
        (["--seed", "-1"], "0 <= --seed < 2^31"),
        (["--seed", str(2**31)], "0 <= --seed < 2^31"),
        (["--selector-split", "test"], "--selector-split in"),
        (
            ["--dataset", "folder", "--data-dir", "few", "--selector-split", "crossfit"],
            "expected 3 training samples of every class for --selector-split crossfit, but got 2",
        ),
        (["--mlflow-uri", "./mlruns"], "an MLflow URI beginning with"),
        (["--register", "a/b"], "a name for the model without / : and quotes, but got 'a/b'"),
        (["--register", "a", "--mlflow-uri", "none"], "an MLflow URI beside a model to register"),
        (["--address", "ray://head:10001"], "--address HOST:PORT of a cluster's head"),
        (["--executor", "threads"], "--executor in ('ray', 'inline'), but got 'threads'"),
        (["--executor", "inline", "--address", "h:6379"], "no --address beside --executor inline"),
        (["--mlflow-uri", "http://[x"], "an MLflow URI that can be parsed"),
        (["--mlflow-uri", "http://me:pw@host"], "and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRAC"),
        (["--run-dir", "a file/run"], "run directory that can be made"),
        (["--dataset", "fer2013", "--data-dir", "nowhere"], "kaggle.com"),
        (["--dataset", "utkface", "--data-dir", "empty"], "susanqq.github.io"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], "torchvision.datasets import MNIST"),
        (["--dataset", "folder", "--data-dir", "ants"], "at least two classes"),
        (["--dataset", "folder", "--data-dir", "unreadable"], "bee/0007.png"),
        (
            [
                *("--dataset", "utkface", "--data-dir", "faces", "--preset", "paper"),
                *("--imagenet-weights", "missing.pth"),
            ],
            "--imagenet-weights none",
        ),
    ],
)
def test_bad_input_gets_one_line_and_status_2_before_ray_starts(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_ray(**_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", no_ray)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").touch()
    _ants(tmp_path / "ants")
    _unreadable(tmp_path / "unreadable")
    data.write_images(tmp_path / "few", ("ant",), 4, 3, 20, 0)
    data.write_images(tmp_path / "few", ("bee",), 11, 3, 20, 1)
    data.write_utkface(tmp_path / "faces")
    assert main(["search", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("executor", ["ray", "inline"])
def test_a_user_without_a_home_directory_gets_one_line(
    executor: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert main(["search", "--executor", executor]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: expected a home directory, but got none for user id ")
    assert error.endswith(": set HOME to a folder of yours\n")


def test_a_home_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/dev/null/home")
    message = r"home directory that can be written, .*'/dev/null/home/\.ray' \(Not a directory\)"
    with pytest.raises(InvalidInputError, match=message), connect(None):
        pass
