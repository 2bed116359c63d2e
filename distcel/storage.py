"""Files that appear whole or not at all, each with its digest beside it, and tables of samples.

A file is written under a temporary name, fsynced and renamed; its BLAKE2b digest, in
`NAME.blake2b`, is put in place first, so that a file under its final name always has one.
Tables are Arrow IPC files with the columns sample_id, label and one fixed-size list a sample,
which `pyarrow.ipc.open_file` reads without this project.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class DamagedFileError(RuntimeError):
    """A file's bytes do not match the digest beside it."""


@dataclass(frozen=True)
class SampleTable:
    """One split's samples: ids, labels of shape (S,) and values of shape (S, ...).

    The arrays are read-only views of the file; writing to them is a segmentation fault.
    """

    sample_ids: pa.StringArray
    labels: Labels
    values: NDArray[Any]
    metadata: dict[str, str]


def content_key(description: object) -> str:
    """The digest, 24 hexadecimal digits, of a JSON-serialisable description in canonical form."""
    canonical = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=12).hexdigest()


def file_digest(path: Path) -> str:
    """The BLAKE2b digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill `path`: afterwards it exists whole, on disk, with its digest beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        _rename_digest(path, file_digest(partial))
        partial.rename(path)
        _fsync_folder(path.parent)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def read_json(path: Path) -> Any:
    """The content of a file that `write_json` wrote.

    Raises:
        DamagedFileError: its bytes have changed since.
    """
    verify(path)
    return json.loads(path.read_bytes())


def verify(path: Path) -> None:
    """Raise DamagedFileError unless the file's bytes match the digest beside it."""
    beside = _digest_path(path)
    if not beside.is_file() or beside.read_text().strip() != file_digest(path):
        raise DamagedFileError(f"{path} is damaged: its bytes do not match {beside.name}")


def write_samples(
    path: Path,
    column: str,
    sample_ids: pa.StringArray,
    labels: Labels,
    values: NDArray[Any],
    metadata: dict[str, str],
) -> None:
    """Write one table; `values` of shape (S, ...) become fixed-size lists in `column`."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    facts = metadata | {"shape": json.dumps(values.shape[1:])}
    table = pa.table({"sample_id": sample_ids, "label": pa.array(labels), column: lists})
    table = table.replace_schema_metadata(facts)

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_atomically(path, write)


def read_samples(path: Path, column: str) -> SampleTable:
    """Memory-map a table that `write_samples` wrote; nothing is copied.

    Raises:
        DamagedFileError: its bytes have changed since.
    """
    verify(path)
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    shape = json.loads(metadata.pop("shape"))
    values = table[column].chunk(0).flatten().to_numpy().reshape(table.num_rows, *shape)
    labels = table["label"].chunk(0).to_numpy()
    return SampleTable(table["sample_id"].chunk(0), labels, values, metadata)


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".blake2b")


def _rename_digest(path: Path, digest: str) -> None:
    partial = path.with_name(f".partial-digest-{path.name}-{os.getpid()}")
    with partial.open("w") as file:
        file.write(digest + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(_digest_path(path))


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
