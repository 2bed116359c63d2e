"""A pseudo-terminal that a command runs in, and what its user sees in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Sequence
from dataclasses import dataclass

_ROWS, _COLUMNS = 30, 110
_TOKEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b|[\r\n]|[^\x1b\r\n]+")


@dataclass(frozen=True)
class Seen:
    """What a command wrote to its terminal, and its exit status."""

    status: int
    written: str

    @property
    def frames(self) -> str:
        """Every line that was ever shown."""
        return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.written).replace("\r", "")

    def screen(self) -> list[str]:
        """The lines that are there in the end, those that have scrolled away too.

        Raises:
            AssertionError: something other than colours, moving up and erasing a line was asked of
                the terminal, which a killed command could not take back.
        """
        lines, row, column = [""], 0, 0
        for token in _TOKEN.findall(self.written):
            if token == "\r":
                column = 0
            elif token == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif token == "\x1b[2K":
                lines[row] = ""
            elif up := re.fullmatch(r"\x1b\[(\d+)A", token):
                row -= int(up[1])
            elif not re.fullmatch(r"\x1b\[[0-9;]*m", token):
                assert not token.startswith("\x1b"), f"asked of the terminal: {token!r}"
                before = lines[row].ljust(column)
                lines[row] = before[:column] + token + before[column + len(token) :]
                column += len(token)
        return [line.rstrip() for line in lines]


def run_in_terminal(
    command: Sequence[str], until: str = "", number: signal.Signals | None = None
) -> Seen:
    """Run a command in a terminal of its own.

    Args:
        command: the command.
        until: what is shown when the signal is sent, a pattern.
        number: the signal; None lets the command end by itself.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
    )
    os.close(its)
    written = b""
    while chunk := _read(ours):
        written += chunk
        if number is not None and re.search(
            until, Seen(0, written.decode(errors="replace")).frames
        ):
            process.send_signal(number)
            number = None
    os.close(ours)
    return Seen(process.wait(timeout=60), written.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the last process in it has ended
        return b""
