"""How a command ends: with one line on stderr where it cannot go on, and an exit status."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn

from distcel.cli.output import flush_stdout, prepare_stdout
from distcel.cli.signals import Stopped, unwind_on_signals
from distcel.experiment.errors import InvalidInputError, RunFailedError

_DISK_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
)


class OneLineParser(argparse.ArgumentParser):
    """Reports what is wrong with a command line in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"error: {message}: --help lists the flags\n")


def exit_status(run: Callable[[], int]) -> int:
    """Run; the status is 2 for unusable input, 1 for a run that failed, 128 + a signal's.

    Args:
        run: returns the status where nothing goes wrong.

    Raises:
        Exception: any other, which is a defect and wants its traceback.
    """
    prepare_stdout()
    unwind_on_signals()
    try:
        return run()
    except (InvalidInputError, RunFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInputError) else 1
    except Stopped as stop:
        return 128 + stop.number
    except SystemError as error:  # what ray.wait makes of an exception in a signal's handler
        if not isinstance(error.__cause__, Stopped):
            raise
        return 128 + error.__cause__.number
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or "the run directory"
        remedy = "once that is mended, the same command carries on"
        print(f"error: {where}: {error.strerror}: {remedy}", file=sys.stderr)
        return 1
    finally:
        flush_stdout()
