"""A split's samples, or what a base learner predicts of them, as an Arrow file.

A file is Arrow IPC with the columns sample_id, label and one fixed-size list a sample, which
`pyarrow.ipc.open_file` reads without this project.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.formats import Labels
from distcel.storage.files import DamagedFileError, verify, write_checked

_MANY_VALUES = pa.ipc.IpcWriteOptions(allow_64bit=True)  # 2^31 are 14,000 images of 224 x 224


@dataclass(frozen=True)
class SampleTable:
    """One split's samples: ids, labels of shape (S,) and values of shape (S, ...).

    The arrays are read-only views of the file; writing to them causes a segmentation fault.
    """

    sample_ids: pa.StringArray
    labels: Labels
    values: NDArray[Any]
    metadata: dict[str, str]


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
        with pa.ipc.new_file(file, table.schema, options=_MANY_VALUES) as writer:
            writer.write_table(table, max_chunksize=max(1, table.num_rows))

    write_checked(path, write)


def read_samples(path: Path, column: str) -> SampleTable:
    """Memory-map a table that `write_samples` wrote; nothing is copied.

    Raises:
        DamagedFileError: its bytes have changed since, or it is another kind of file.
    """
    verify(path)
    try:
        return _parse_samples(path, column)
    except (
        pa.ArrowException,
        OSError,
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:
        raise DamagedFileError(path, f"it is not a table of {column} ({error})") from None


def _parse_samples(path: Path, column: str) -> SampleTable:
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    table.validate(full=True)  # a wrong offset would be a segmentation fault later
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    shape = json.loads(metadata.pop("shape"))
    values = table[column].chunk(0).flatten().to_numpy().reshape(table.num_rows, *shape)
    labels = table["label"].chunk(0).to_numpy()
    return SampleTable(table["sample_id"].chunk(0), labels, values, metadata)
