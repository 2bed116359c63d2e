"""One launch at a time on a run directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from distcel.experiment.errors import RunFailedError, invalid


@contextmanager
def run_lock(run_dir: Path) -> Iterator[None]:
    """Lock the run directory while the context is open; the lock ends with the process.

    Raises:
        InvalidInputError: another launch holds it, which the message names; or it cannot be made
            or locked.
        RunFailedError: the context raised an error, and the directory was removed meanwhile.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"{str(run_dir)!r} ({error.strerror})"
        raise invalid("a run directory that can be made", found, "give another --run-dir") from None
    with (run_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = f"{str(run_dir)!r}, which {_holder(file)} holds"
            remedy = "wait for it or give another --run-dir"
            raise invalid("a run directory that no other launch uses", found, remedy) from None
        except OSError as error:  # some mounts of NFS or Lustre have no locks
            rule = "a run directory whose file system can lock files"
            found = f"{str(run_dir)!r} ({error.strerror})"
            raise invalid(rule, found, "give a --run-dir on another file system") from None
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}))
        file.flush()
        try:
            yield
        except Exception as error:
            if _is_at(run_dir / "lock", file):
                raise
            remedy = "repeat the command"
            text = f"{run_dir} was removed or replaced while the launch ran: {remedy}"
            raise RunFailedError(text) from error


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def _holder(file: TextIO) -> str:
    """What the holder of the lock wrote; waits up to a second, as it may not have written yet."""
    for _ in range(50):
        time.sleep(0.02)
        file.seek(0)
        text = file.read().strip()
        try:
            holder = json.loads(text)
            if holder["host"] == socket.gethostname():
                os.kill(holder["pid"], 0)  # raises where the text is an earlier holder's
            return text
        except PermissionError:  # another user's process, alive
            return text
        except (ValueError, KeyError, TypeError, ProcessLookupError):
            pass
    return "another launch"
