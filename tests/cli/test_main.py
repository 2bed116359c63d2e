"""The program: its subcommands and flags, what `--help` costs, and how output ends."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from distcel.cli.main import COMMANDS, commands_of, main, parser, script_parser
from tests.cli.made_run import MadeRun

ROOT = Path(__file__).parents[2]

OF_ALL_SEARCHES = {
    *("--dataset", "--data-dir", "--preset", "--config", "--num-samples", "--time-budget"),
    "--fix",
    *("--selector-split", "--imagenet-weights", "--mlflow-uri", "--executor", "--address"),
    *("--register", "--gpus-per-worker", "-q", "--quiet", "--json"),
    *("-v", "--verbose"),
}
OPTIONS = {
    "search": {*OF_ALL_SEARCHES, "--run-dir", "--seed", "--prune", "--dry-run"},
    "select": {
        *("--predictions", "--truth", "--features", "--always", "--prices", "--budget"),
        *("--shares", "--image-size", "--run-dir", "--seed", "--num-samples", "--time-budget"),
        *("--fix", "--mlflow-uri", "--executor", "--address", "--gpus-per-worker"),
        *("--dry-run", "-q", "--quiet", "--json", "-v", "--verbose"),
    },
    "reproduce": {
        *OF_ALL_SEARCHES,
        *("--seeds", "--beyond", "--gradients", "--results-dir", "--results-pages"),
    },
    "report": {"--open", "--pages", "RUN"},
    "status": {"--json", "RUN"},
    "predict": {
        *("--predictions", "--features", "--ask", "--explain", "--json", "RUN", "IMAGE"),
    },
    "export": {"--format", "RUN"},
    "serve": {"--host", "--port", "--replicas", "RUN"},
}


def options(flags: argparse.ArgumentParser) -> set[str]:
    named = (action.option_strings or [str(action.metavar)] for action in flags._actions)
    return {option for names in named for option in names} - {"-h", "--help"}


def test_no_option_appears_by_accident() -> None:
    commands = commands_of(parser())
    assert {name: options(flags) for name, flags in commands.items()} == OPTIONS
    assert options(parser()) == {"--version", "--print-completion", "COMMAND"}


def test_the_scripts_have_the_flags_of_their_subcommands() -> None:
    for command, name in (("search", "cluster.py"), ("reproduce", "reproduce.py")):
        flags = script_parser(command, name)
        assert options(flags) == OPTIONS[command]
        text = flags.format_help()
        assert text.startswith(f"usage: {name} ")
        assert f"python launch/{name} --dataset" in text
        assert "distcel search" not in text


def test_every_flag_is_in_the_help_with_its_default() -> None:
    for name, flags in commands_of(parser()).items():
        text = flags.format_help()
        optional = [a for a in flags._actions if a.option_strings and a.dest != "help"]
        assert all(re.search(r"\(.+\)$", action.help or "") for action in optional), name
        assert all(option in text for option in OPTIONS[name])


def test_a_subcommand_is_described_by_its_own_examples() -> None:
    for name in COMMANDS:
        assert f"\ndistcel {name}" in commands_of(parser())[name].format_help()


@pytest.mark.parametrize("words", [["--help"], ["search", "--help"], ["predict", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from distcel.cli.main import main\n"
        f"try: main({words})\n"
        "except SystemExit as exit: print(exit.code)\n"
        "print({'torch', 'ray', 'mlflow', 'optuna', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.stdout.endswith("\n0\nset()\n"), ran.stderr


def test_without_a_subcommand_it_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", parser().format_help())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"distcel {version('distcel')}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retrain"], "invalid choice: 'retrain'"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["search", "--fast"], "unrecognized arguments: --fast"),
        (["search", "--num-samples", "two"], "argument --num-samples: invalid int value: 'two'"),
        (["predict"], "the following arguments are required: RUN"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_flags_and_values(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--print-completion", shell])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for word in ("reproduce", "--selector-split", "crossfit", "fashion_mnist", "inline"):
        assert word in text
    if shell == "bash":
        completed = _bash_completes(text, "distcel search --preset sm")
        assert completed == ["smoke"]
        assert "--results-pages" in _bash_completes(text, "distcel reproduce --results-")


def _bash_completes(script: str, line: str) -> list[str]:
    words = " ".join(f"'{word}'" for word in line.split())
    index = len(line.split()) - 1
    code = f"{script}\nCOMP_WORDS=({words}); COMP_CWORD={index}\n"
    last = line.split()[-1]
    code += f"_shtab_distcel distcel '{last}' ''\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return [word.strip() for word in ran.stdout.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        *(["--help"], ["search", "--help"], ["status", "RUN"]),
        *(["--version"], ["--print-completion", "bash"]),
    ],
)
def test_a_reader_that_has_gone_ends_it_without_a_traceback(
    words: list[str], made: MadeRun, tmp_path: Path
) -> None:
    made.begin()
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from distcel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    named = [str(made.path) if word == "RUN" else word for word in words]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ran = subprocess.run(
        [sys.executable, "-c", code, *named],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=buffered,
    )
    os.close(write)
    assert ran.stderr == ""
    assert ran.returncode == (0 if "--help" in words else 128 + 13)


def test_a_reader_of_errors_that_has_gone_is_no_other_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from distcel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "status", str(tmp_path)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=write, cwd=tmp_path)
    os.close(write)
    assert (ran.returncode, ran.stdout) == (128 + 13, b"")


def test_what_a_terminal_cannot_show_is_escaped() -> None:
    code = "import sys; from distcel.cli.exit_status import exit_status; "
    code += (
        "from distcel.cli.output import put; sys.exit(exit_status(lambda: put('\\U0001f41c') or 0))"
    )
    latin = os.environ | {"PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, env=latin)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"\\U0001f41c\n", b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_stream_that_is_closed_from_the_start_is_no_error(closed: str, made: MadeRun) -> None:
    made.begin()
    code = "import sys; from distcel.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "status", str(made.path)]
    ran = subprocess.run(f"{shlex.join(command)} {closed}", shell=True, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert bool(ran.stdout) == (closed == "2>&-")


def test_a_current_folder_that_was_removed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "folder").mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert main(["status", str(tmp_path)]) == 2
    expected = "error: expected a current folder that exists, but got one that was removed: "
    assert capsys.readouterr().err == f"{expected}change to another one\n"
