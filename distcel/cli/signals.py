"""Ctrl-C, SIGTERM and SIGHUP stop a command by unwinding it; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal stops the command; this is no SystemExit, which Ray Tune takes for an error."""

    def __init__(self, number: int) -> None:
        self.number = number


_SECONDS_TO_RAISE_AGAIN = 0.01


def _announce(text: str) -> None:
    # print() may be what the signal interrupted, and is not reentrant.
    with suppress(OSError):  # the terminal may be gone
        os.write(sys.__stderr__.fileno(), f"{text}\n".encode())  # type: ignore[union-attr]


_announced_by: list[Callable[[str], None]] = [_announce]


@contextmanager
def stops_announced_by(announce: Callable[[str], None]) -> Iterator[None]:
    """Have the line on a signal shown by this while the context is open, in place of stderr.

    Args:
        announce: called by the handler of the signal, in the middle of anything.
    """
    _announced_by.append(announce)
    try:
        yield
    finally:
        _announced_by.pop()


def unwind_on_signals(line: str = "stopping; the same command continues the run") -> None:
    """Let the first signal raise Stopped, and the second end the process.

    Python cannot unwind out of a finalizer, and Ray has some that run often: Python reports the
    exception as unraisable and continues. The exception is then raised again.

    Args:
        line: what is shown on the first signal, after its name.
    """
    for number in _SIGNALS:
        by_nohup = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        if not by_nohup:
            signal.signal(number, partial(_stop, line))
    sys.unraisablehook = _not_raised


def _stop(line: str, number: int, _: object) -> None:
    for each in _SIGNALS:
        signal.signal(each, lambda again, __: os._exit(128 + again))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # shell and kernel both send it as a terminal ends
    name = signal.Signals(number).name
    _announced_by[-1](f"{name}: {line}")
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
