"""Output on the terminal: the package's log and what a command prints."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from distcel.cli.signals import Stopped


class _LogHandler(logging.StreamHandler[TextIO]):
    """Writes plain messages; ends the command if their reader has closed the pipe."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 -- logging's own name
        """Handle a message that could not be written."""
        if not isinstance(sys.exception(), BrokenPipeError):
            super().handleError(record)
        elif threading.current_thread() is threading.main_thread():
            raise Stopped(signal.SIGPIPE)


def show_log(on_stderr: bool = False, level: int = logging.INFO) -> None:
    """Show the messages of the `distcel` logger.

    Args:
        on_stderr: write to stderr, where stdout is for JSON or a report alone.
        level: the least level of a message that is shown.
    """
    logger = logging.getLogger("distcel")
    for earlier in [h for h in logger.handlers if isinstance(h, _LogHandler)]:
        logger.removeHandler(earlier)
    handler = _LogHandler(sys.stderr if on_stderr else sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)


@contextmanager
def run_shown(arguments: argparse.Namespace) -> Iterator[None]:
    """Show what a run does while the context is open; the log is shown beyond it.

    In a terminal that can move its cursor it is a block of lines, elsewhere a line for each event.

    Args:
        arguments: `quiet`: warnings and errors alone, `verbose`: a line for each epoch too, without
            a block, and `json`: on stderr, with everything that libraries print.
    """
    quiet, verbose, stream = arguments.quiet, arguments.verbose, sys.stdout
    with ExitStack() as stack:
        if arguments.json:
            stream = sys.stderr
            stack.enter_context(redirect_stdout(stream))
        level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
        show_log(arguments.json, level)
        dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
        if stream.isatty() and not (quiet or verbose or dumb):
            from distcel.cli.live import live_block

            stack.enter_context(live_block(stream))
        yield


def put(text: str) -> None:
    """Print the text on stdout.

    Raises:
        Stopped: the reader has closed the pipe; the exit status is that of SIGPIPE.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise Stopped(signal.SIGPIPE) from None


def prepare_output() -> None:
    """Write each line as it is printed, with escapes for characters that stdout cannot encode.

    What goes to a stream that was closed before the command began, as by `>&-`, is dropped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 -- as long as the process
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def flush_output() -> None:
    """Write what is left; otherwise Python would report a closed pipe or terminal at its exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
