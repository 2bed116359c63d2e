"""The id of a run directory, which a moved one keeps and a copy does not share."""

from __future__ import annotations

import logging
import re
import secrets
import socket
from pathlib import Path
from typing import Any

from distcel.storage.files import DamagedFileError, put_aside, read_record, write_record

logger = logging.getLogger(__name__)


def own_id(run_dir: Path) -> str:
    """The id that distinguishes equal searches in different run directories; made if missing.

    A directory that was moved keeps its id, and a copy gets another one, or both would write to the
    same runs of a tracker. The bare id of distcel 0.1.0 is kept, with the place added; a damaged id
    is put aside and made again.
    """
    path = run_dir / "id"
    place = _place(run_dir)
    try:
        record = read_record(path)
        if _is_own(record, place):
            found = str(record["id"])
        else:
            logger.warning("%s is a copy: its runs in MLflow are its own", run_dir)
            found = secrets.token_hex(8)
    except (FileNotFoundError, DamagedFileError) as error:
        record, found = {}, secrets.token_hex(8)
        if isinstance(error, DamagedFileError):
            bare = path.read_bytes()
            if re.fullmatch(rb"[0-9a-f]{16}", bare):
                found = bare.decode()
            else:
                put_aside(error)
    if record != {"id": found, **place}:
        write_record(path, {"id": found, **place})
    return found


def _place(run_dir: Path) -> dict[str, Any]:
    """Where the directory is: its host, path and inode."""
    path = run_dir.resolve()
    return {"host": socket.gethostname(), "path": str(path), "inode": path.stat().st_ino}


def _is_own(record: dict[str, Any], place: dict[str, Any]) -> bool:
    """Whether the directory in which the record lies is the one that it was written for.

    Renaming keeps the inode, which other hosts and containers see as well. A copy in the same file
    system has another one. Moved between file systems, a directory is gone from where it was.
    """
    here = record["host"] == place["host"]
    if here and record["path"] == place["path"]:
        return True  # its inode may change where it is mounted
    if here and (Path(record["path"]) / "id").exists():
        return False
    return here or bool(record["inode"] == place["inode"])
