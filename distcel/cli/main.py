"""The program `distcel` and its subcommands; `--help` imports nothing heavy."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, Protocol, get_args

from distcel.cli import export, predict, report, reproduce, search, select, serve, status
from distcel.cli.exit_status import OneLineParser, exit_status
from distcel.execute.environment import require_current_folder
from distcel.execute.workers import ExecutorName
from distcel.experiment.loading import DATASETS, PRESET_NAMES
from distcel.experiment.types import SelectorSplit

_DESCRIPTION = """\
Learn for each sample which k of n classifiers predict it: search, evaluate, predict.

distcel COMMAND --help lists the flags of a command.
"""


class _Command(Protocol):
    __doc__: str | None
    SUMMARY: str

    def add_flags(self, flags: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS: dict[str, _Command] = {
    "search": search,
    "select": select,
    "reproduce": reproduce,
    "report": report,
    "status": status,
    "predict": predict,
    "export": export,
    "serve": serve,
}


def main(words: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        words: the arguments of the command line; None takes those of this process.

    Returns:
        int: the exit status, as `exit_status` describes it.

    Raises:
        SystemExit: the command line cannot be parsed, or has `--help`.
    """
    words = sys.argv[1:] if words is None else words
    return exit_status(lambda: _run(parser(), words, ["distcel", *words]))


def script(command: str, name: str, words: Sequence[str] | None = None) -> int:
    """Run one subcommand as the script `launch/NAME`; otherwise like `main`."""
    words = sys.argv[1:] if words is None else words
    typed = ["python", f"launch/{name}", *words]
    return exit_status(lambda: _run(script_parser(command, name), words, typed))


def parser() -> OneLineParser:
    """The parser of all subcommands."""
    flags = OneLineParser(prog="distcel", description=_DESCRIPTION, formatter_class=_Formatter)
    flags.add_argument("--version", action=_Version, help="print the version")
    flags.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh"),
        help="print a script that completes commands and flags in this shell",
    )
    commands = flags.add_subparsers(metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.__doc__,
            formatter_class=_Formatter,
            allow_abbrev=_allows_abbreviations(name),
        )
        _fill(own, command)
    return flags


def script_parser(command: str, name: str) -> OneLineParser:
    """The parser of a script that is one subcommand."""
    description = (COMMANDS[command].__doc__ or "").replace(
        f"distcel {command}", f"python launch/{name}"
    )
    flags = OneLineParser(
        prog=name,
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=_allows_abbreviations(command),
    )
    _fill(flags, COMMANDS[command])
    return flags


_Formatter = argparse.RawDescriptionHelpFormatter


def _allows_abbreviations(command: str) -> bool:
    return command != "reproduce"  # where --seed would be taken for --seeds


def _fill(flags: argparse.ArgumentParser, command: _Command) -> None:
    command.add_flags(flags)
    flags.set_defaults(run=command.run)


def _run(flags: argparse.ArgumentParser, words: Sequence[str], typed: list[str]) -> int:
    arguments = flags.parse_args(words)
    if not hasattr(arguments, "run"):
        flags.print_help(sys.stderr)
        return 2
    arguments.typed = typed
    require_current_folder()
    status: int = arguments.run(arguments)
    return status


class _Version(argparse.Action):
    """Prints the version, which is looked up for this flag alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, flags: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"distcel {version('distcel')}")
        flags.exit(0)


class _Completion(argparse.Action):
    """Prints the completion script of a shell."""

    def __call__(
        self, flags: argparse.ArgumentParser, _: object, shell: Any, __: str | None = None
    ) -> NoReturn:
        import shtab

        # The parser has no choices otherwise: commands check values themselves, with a remedy.
        values = {"dataset": DATASETS, "preset": PRESET_NAMES, "executor": get_args(ExecutorName)}
        values["selector_split"] = get_args(SelectorSplit)
        for action in chain.from_iterable(own._actions for own in commands_of(flags).values()):
            action.choices = values.get(action.dest, action.choices)
            if action.type is Path:
                files = shtab.FILE if action.dest == "images" else shtab.DIRECTORY
                action.complete = files  # type: ignore[attr-defined]
        print(shtab.complete(flags, shell))
        flags.exit(0)


def commands_of(flags: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the subcommands, by name."""
    (commands,) = (a for a in flags._actions if isinstance(a, argparse._SubParsersAction))
    return dict(commands.choices)
