"""What `distcel report` is given and refuses; what it lays out, tests/launch compares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.cli.main import main
from tests.report.made_results import made_results


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected RUN or --pages DIR, but got neither: give one of them"),
        (["run", "--pages", "pages"], "expected RUN or --pages DIR, but got both"),
        (["--pages", ".", "--open"], "expected --open beside a RUN, but got '--pages'"),
        (["old", "--open"], "expected the files of this version, but got 'old' without details"),
        (["--pages", "missing"], "expected --pages that is a folder, but got 'missing'"),
        (["missing"], "expected a folder with a results.json, but got 'missing' (No such file"),
        (["empty"], "expected a folder with a results.json, but got 'empty' (No such file"),
        (["broken"], "but got 'broken/results.json', which is no JSON"),
        (["list"], "but got 'list/results.json without an object'"),
        (["other"], "expected a results.json as this version writes it, but got 'other/"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"broken": "{", "list": "[]", "other": "{}", "old": "{}", "empty": None}
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "results.json").write_text(content)
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_it_needs_neither_torch_nor_ray(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    code = (
        "import sys; from distcel.cli.main import main\n"
        f"status = main(['report', {str(tmp_path)!r}])\n"
        "print(status, {'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "2 set()\n", ran.stderr


def test_open_writes_the_page_and_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(made_results({})))
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)  # None, as False, is no browser
    assert main(["report", str(tmp_path), "--open"]) == 0
    page = tmp_path / "report.html"
    assert opened == [page.as_uri()]
    shown = capsys.readouterr()
    assert shown.out == f"{page}\n"
    assert "no browser here" in shown.err
