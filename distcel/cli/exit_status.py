"""How a command ends: with an exit status, and with one line on stderr if it fails."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from distcel.cli.output import flush_output, prepare_output
from distcel.cli.signals import Stopped, unwind_on_signals
from distcel.experiment.errors import InvalidInputError, RunFailedError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (*_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EBUSY)


class OneLineParser(argparse.ArgumentParser):
    """Reports what is wrong with a command line in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"error: {message}: --help lists the flags\n")


def exit_status(run: Callable[[], int]) -> int:
    """Run a command; the status is 2 for unusable input, 1 for a failed run, 128 + N for signal N.

    Args:
        run: the command, which returns its exit status.

    Raises:
        Exception: any other error is a defect, which is shown with its traceback.
    """
    prepare_output()
    unwind_on_signals()
    try:
        return _status(run)
    except BrokenPipeError:  # the reader of stdout or stderr has gone
        return 128 + signal.SIGPIPE
    finally:
        flush_output()


def _status(run: Callable[[], int]) -> int:
    try:
        return run()
    except (InvalidInputError, RunFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInputError) else 1
    except Stopped as stop:
        return 128 + stop.number
    except SystemError as error:  # ray.wait raises this for an exception in a signal's handler
        if not isinstance(error.__cause__, Stopped):
            raise
        return 128 + error.__cause__.number
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "the run directory"
        remedy = "remove the cause and repeat the command"
        print(f"error: {where}: {error.strerror}: {remedy}", file=sys.stderr)
        return 1
