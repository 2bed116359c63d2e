"""Output on the terminal: the package's log and what a command prints."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
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


def show_log(quiet: bool = False, on_stderr: bool = False) -> None:
    """Show the messages of the `distcel` logger.

    Args:
        quiet: show errors only.
        on_stderr: write to stderr, where stdout is for JSON or a report alone.
    """
    logger = logging.getLogger("distcel")
    for earlier in [h for h in logger.handlers if isinstance(h, _LogHandler)]:
        logger.removeHandler(earlier)
    handler = _LogHandler(sys.stderr if on_stderr else sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR if quiet else logging.INFO)


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
