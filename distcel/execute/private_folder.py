"""A folder for Ray's files that other users of the machine cannot enter.

Ray makes the folders of a session writable by everybody, and the code that workers run is in one of
them. Who cannot enter the folder above cannot reach them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distcel.experiment.errors import require

_PREFIX = "ray-"  # short: see below
_LOCK = "in-use-by-distcel"
# The path of a socket has 107 bytes at most; Ray's session and socket take up to 66 of them.
_LONGEST_PARENT = 107 - 66 - len(f"/{_PREFIX}12345678/ray")


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder with permissions 0700, in `RAY_TMPDIR` or else `TMPDIR` or `/tmp`.

    It is removed after the context, unless `keep` was called with it, and so are, first, those of
    launches that were killed.

    Raises:
        InvalidInputError: `RAY_TMPDIR` is too long for the sockets below, or no folder.
    """
    parent = _parent()
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))  # 0700
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it however this process ends
        try:
            yield folder
        finally:
            if (folder / _LOCK).exists():
                shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path) -> None:
    """Leave the folder to the user, for Ray's logs."""
    (folder / _LOCK).unlink()


def _parent() -> Path:
    chosen = os.environ.get("RAY_TMPDIR")
    if chosen:
        rule = f"a folder with a path of at most {_LONGEST_PARENT} bytes as RAY_TMPDIR"
        usable = Path(chosen).is_dir() and _is_short(chosen)
        require(usable, rule, chosen, "make it, or choose a shorter one")
        return Path(chosen).absolute()
    usual = os.environ.get("TMPDIR", "/tmp")
    return Path(usual if Path(usual).is_dir() and _is_short(usual) else "/tmp")


def _is_short(path: str) -> bool:
    return len(os.fsencode(Path(path).absolute())) <= _LONGEST_PARENT


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or another user's
            if folder.stat(follow_symlinks=False).st_uid == os.getuid():
                with (folder / _LOCK).open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
