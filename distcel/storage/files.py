"""Files that appear whole or not at all, and whose damage is noticed.

A file is written under a temporary name, fsynced and renamed. What is written once and read by
every later launch has its BLAKE2b digest in `NAME.blake2b` beside it. The digest is put in place
first, so that a file under its final name always has one. A file that is replaced has its digest
inside, so that one step replaces both: a record is JSON with a digest, a sealed file begins with
one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from distcel.experiment.errors import RunFailedError

logger = logging.getLogger(__name__)

PARTIAL = ".partial-"  # begins the name of a file that is not whole yet
_DIGEST_SIZE = 16


class DamagedFileError(RunFailedError):
    """A file is not what was written; the same command puts it aside and makes it again."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}; the same command makes it again")
        self.path, self.why = path, why


def content_key(description: object) -> str:
    """The digest, 24 hexadecimal digits, of a JSON-serialisable description in canonical form."""
    return hashlib.blake2b(_canonical(description), digest_size=12).hexdigest()


def put_aside(error: DamagedFileError) -> None:
    """Rename the damaged file to NAME.damaged, so that it can be examined."""
    path = error.path
    logger.warning("%s is damaged: %s; put aside as %s.damaged", path, error.why, path.name)
    path.replace(path.with_name(path.name + ".damaged"))


def remove_partial_files(run_dir: Path) -> None:
    """Remove the unfinished files that a killed launch left in its run directory."""
    folders = ("data", "learners", "search")  # others may be run directories of other launches
    below = (path for name in folders for path in (run_dir / name).rglob(f"{PARTIAL}*"))
    for path in [*run_dir.glob(f"{PARTIAL}*"), *below]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill the file: it is then whole and on disk, or unchanged after an error."""
    with _Partial(path) as partial:
        partial.fill(write)
        partial.put_in_place()


def write_bytes(path: Path, content: bytes) -> None:
    """Write the content as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(content))


def write_new(path: Path, content: bytes) -> None:
    """Write the content as `write_bytes` does, unless the file exists: that one then stays."""
    with _Partial(path) as partial, suppress(FileExistsError):
        partial.fill(lambda file: file.write(content))
        path.hardlink_to(partial.path)  # a rename would replace it
        sync_names(path.parent)


def write_checked(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write as `write_atomically` does, with the digest of the bytes in a file beside it."""
    with _Partial(path) as partial:
        partial.fill(write)
        digest = _file_digest(partial.path)
        write_bytes(_digest_path(path), f"{digest}\n".encode())
        partial.put_in_place()


def verify(path: Path) -> None:
    """Check that the file's bytes match the digest beside it.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedFileError: it has no digest, or that of other bytes.
    """
    beside, digest = _digest_path(path), _file_digest(path)
    if not beside.is_file() or beside.read_text(errors="replace").strip() != digest:
        raise DamagedFileError(path, f"its bytes do not match {beside.name}")


def write_sealed(path: Path, content: bytes) -> None:
    """Write the content with its digest in front, so that it can be replaced in one step."""
    write_bytes(path, _seal(content) + content)


def read_sealed(path: Path) -> bytes | None:
    """The content that `write_sealed` wrote; None if the file is missing or damaged (put aside)."""
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        return None
    content = sealed[_DIGEST_SIZE:]
    if sealed[:_DIGEST_SIZE] == _seal(content):
        return content
    put_aside(DamagedFileError(path, "its content does not match its digest"))
    return None


def _seal(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).digest()


def remove_checked(path: Path) -> None:
    """Remove a file that `write_checked` wrote, if it exists."""
    path.unlink(missing_ok=True)
    _digest_path(path).unlink(missing_ok=True)


def is_intact(path: Path) -> bool:
    """Whether a file that `write_checked` wrote exists; a damaged one is put aside first."""
    try:
        verify(path)
    except FileNotFoundError:
        return False
    except DamagedFileError as error:
        put_aside(error)
        return False
    return True


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object together with its own digest, so that it can be replaced in one step."""
    write_json(path, {**content, "blake2b": content_key(content)})


def read_record(path: Path) -> dict[str, Any]:
    """The content of a file that `write_record` wrote.

    Raises:
        DamagedFileError: it has changed since.
    """
    try:
        record = json.loads(path.read_bytes())
        if record.pop("blake2b") == content_key(record):
            content: dict[str, Any] = record
            return content
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        pass
    raise DamagedFileError(path, "its content does not match its digest")


def bytes_digest(content: bytes) -> str:
    """The BLAKE2b digest, 32 hexadecimal digits, that `write_checked` puts beside such a file."""
    return hashlib.blake2b(content, digest_size=_DIGEST_SIZE).hexdigest()


def safetensors_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The arrays as a safetensors file, whatever their layout in memory.

    safetensors itself writes the bytes of a channels-last array in the wrong order, silently.
    """
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()})


class _Partial:
    """A file under a temporary name beside `final`; it is gone after the context."""

    def __init__(self, final: Path) -> None:
        self.final = final
        final.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=final.parent, prefix=PARTIAL)
        self.path, self.file = Path(name), os.fdopen(descriptor, "wb")

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            self.path.unlink()
        with suppress(OSError):  # on a full disk it fails a second time
            self.file.close()

    def fill(self, write: Callable[[BinaryIO], object]) -> None:
        try:
            write(self.file)
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            error.filename = str(self.final)
            raise
        self.path.chmod(0o644)

    def put_in_place(self) -> None:
        self.path.rename(self.final)
        sync_names(self.final.parent)


def sync_names(folder: Path) -> None:
    """Let the names in a folder outlast a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(description: object) -> bytes:
    return json.dumps(description, sort_keys=True, separators=(",", ":")).encode()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.blake2b(digest_size=_DIGEST_SIZE)
        ).hexdigest()


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".blake2b")
