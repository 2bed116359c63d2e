"""Tables that others wrote, a row a sample: CSV, Parquet or Arrow (a file, a stream or Feather)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

TABLE_SUFFIXES = (".csv", ".parquet", ".arrow", ".arrows", ".feather")
_CSV_BLOCK = 2**24  # bytes; a line has to fit into one
_ARROW_FILE = b"ARROW1"  # begins an Arrow file; a stream has no such mark


@dataclass(frozen=True)
class Table:
    """A table of R samples, each once.

    Attributes:
        path: the file that it was read from.
        ids: the R sample ids, as text.
        columns: the other columns, each name once.
    """

    path: Path
    ids: pa.StringArray
    columns: pa.Table

    @property
    def names(self) -> list[str]:
        """The names of the columns beside sample_id, in their order."""
        found: list[str] = self.columns.column_names
        return found

    def text(self, name: str) -> pa.StringArray:
        """A column as text, (R,); a missing value is empty."""
        return _text(self.columns[name], name, self.path)

    def numbers(self, name: str, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """A column as numbers, (R,); a missing value is NaN.

        Raises:
            InvalidInputError: a value is no number.
        """
        column, wanted = self.columns[name], pa.from_numpy_dtype(dtype)
        try:
            if _is_text(column.type):
                trimmed = pc.utf8_trim_whitespace(self.text(name))
                column = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
            found: NDArray[Any] = column.cast(wanted, safe=False).to_numpy(zero_copy_only=False)
        except pa.ArrowException as error:
            rule, what = f"numbers in the column {name!r}", f"{str(self.path)!r} ({_line(error)})"
            raise invalid(rule, what, "mend or remove the column") from None
        return found


def read_table(path: Path) -> Table:
    """Read a table with a column sample_id; ids and whatever else a CSV holds stay text.

    Raises:
        InvalidInputError: the file is missing, unreadable or of another kind, a column is there
            twice, or a row has no id or that of another row.
    """
    known = path.suffix.lower() in TABLE_SUFFIXES
    rule = f"a table of a suffix in {', '.join(TABLE_SUFFIXES)}"
    require(known, rule, str(path), "give a table in one of these formats")
    try:
        table = _parse(path)
        table.validate(full=True)  # a wrong offset would be a segmentation fault later
        names = table.column_names
    except (pa.ArrowException, OSError, ValueError) as error:
        found = f"{str(path)!r} ({_line(error)})"
        raise invalid("a readable table", found, "give an existing table, or mend it") from None
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    require(not twice, f"every column once in {str(path)!r}", twice[:3], "rename or remove them")
    rule = f"a column sample_id in {str(path)!r}"
    require("sample_id" in names, rule, names[:10], "name the column of the ids so")
    ids = _text(table["sample_id"], "sample_id", path)
    _require_unique(ids, path)
    return Table(path, ids, table.drop_columns(["sample_id"]))


def _parse(path: Path) -> pa.Table:
    content = path.read_bytes()
    suffix = path.suffix.lower()
    if suffix == ".csv":
        options = pa_csv.ReadOptions(block_size=_CSV_BLOCK)
        names = pa_csv.open_csv(pa.BufferReader(content), options).schema.names
        as_text = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
        return pa_csv.read_csv(pa.BufferReader(content), options, convert_options=as_text)
    if suffix == ".parquet":
        return pq.read_table(pa.BufferReader(content))
    is_file = content.startswith(_ARROW_FILE)
    opened = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(pa.BufferReader(content))
    return opened.read_all()


def _require_unique(ids: pa.StringArray, path: Path) -> None:
    n_empty = pc.sum(pc.equal(ids, "")).as_py() or 0
    found = f"{n_empty} rows without one in {str(path)!r}"
    if n_empty:
        raise invalid("a sample_id in every row", found, "add their ids, or remove the rows")
    counts = pc.value_counts(ids)
    if len(counts) < len(ids):
        values, times = counts.field("values"), counts.field("counts")
        twice = values.filter(pc.greater(times, 1))
        found = f"{len(twice)} in more than one of {str(path)!r}, the first {twice[0].as_py()!r}"
        raise invalid("every sample_id in one row", found, "remove the other rows")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text: bool = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return is_text or pa.types.is_string_view(kind)


def _text(column: pa.ChunkedArray, name: str, path: Path) -> pa.StringArray:
    try:
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        text = pc.fill_null(column.cast(pa.string()), "")
    except pa.ArrowException as error:
        rule, found = f"text or numbers in the column {name!r}", f"{str(path)!r} ({_line(error)})"
        raise invalid(rule, found, "mend or remove the column") from None
    return pa.concat_arrays(text.chunks) if text.num_chunks else pa.array([], pa.string())


def _line(error: Exception) -> str:
    """What an error says, in one line."""
    return printable(str(error).strip().partition("\n")[0])
