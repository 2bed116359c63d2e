"""Ctrl-C, SIGTERM and SIGHUP stop a command by unwinding it; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal stops the command; this is no SystemExit, which Ray Tune takes for an error."""

    def __init__(self, number: int) -> None:
        self.number = number


_SECONDS_TO_RAISE_AGAIN = 0.01


def unwind_on_signals() -> None:
    """Let the first signal raise Stopped, and the second end the process.

    Python cannot unwind out of a finalizer, and Ray has some that run often: Python reports the
    exception as unraisable and continues. The exception is then raised again.
    """
    for number in _SIGNALS:
        by_nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        if not by_nohup:
            signal.signal(number, _stop)
    sys.unraisablehook = _not_raised


def _stop(number: int, _: object) -> None:
    for each in _SIGNALS:
        signal.signal(each, lambda again, __: os._exit(128 + again))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # shell and kernel both send it as a terminal ends
    # print() may be what the signal interrupted, and is not reentrant.
    text = f"{signal.Signals(number).name}: stopping; the same command continues the run\n"
    with suppress(OSError):  # the terminal may be gone
        os.write(sys.__stderr__.fileno(), text.encode())  # type: ignore[union-attr]
    raise Stopped(number)


def _not_raised(unraisable: Any) -> None:
    stop = unraisable.exc_value
    if not isinstance(stop, Stopped):
        sys.__unraisablehook__(unraisable)
        return

    def raise_again(_: int, __: object) -> None:
        raise Stopped(stop.number)

    signal.signal(signal.SIGALRM, raise_again)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS_TO_RAISE_AGAIN)
