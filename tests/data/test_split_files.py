from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distcel.data.sample_table import read_samples, write_samples


def test_a_table_is_read_by_pyarrow_alone(tmp_path: Path) -> None:
    path = tmp_path / "table.arrow"
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    ids = pa.array(["a", "b", "c", "d"])
    write_samples(path, "probabilities", ids, np.arange(4), values, {"learner": "cat"})

    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.column_names == ["sample_id", "label", "probabilities"]
    assert table.schema.field("probabilities").type == pa.list_(pa.float32(), 6)
    assert table["sample_id"].to_pylist() == ["a", "b", "c", "d"]
    assert table["label"].to_pylist() == [0, 1, 2, 3]
    assert table["probabilities"].to_pylist() == values.tolist()
    assert table.schema.metadata[b"learner"] == b"cat"


def test_more_than_2_to_the_31_values_are_a_table_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file, options = pa.ipc.new_file, list[pa.ipc.IpcWriteOptions]()

    def noting(*arguments: Any, **further: Any) -> Any:
        options.append(further.get("options", pa.ipc.IpcWriteOptions()))
        return new_file(*arguments, **further)

    monkeypatch.setattr(pa.ipc, "new_file", noting)
    write_samples(tmp_path / "few", "image", pa.array(["a"]), np.zeros(1, int), np.ones((1, 4)), {})
    # An array without memory of its own, unlike as many pixels.
    lists = pa.FixedSizeListArray.from_arrays(pa.nulls(2**31 + 2**16), 2**16)
    many = pa.table({"image": lists})
    with new_file(pa.BufferOutputStream(), many.schema, options=options[0]) as writer:
        writer.write_table(many)


def test_a_table_is_read_back_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "images.arrow"
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6), dtype=np.uint8)
    write_samples(path, "image", pa.array(list("abcde")), np.arange(5), images, {"seed": "1"})
    allocated = pa.total_allocated_bytes()
    table = read_samples(path, "image")
    assert pa.total_allocated_bytes() - allocated < images.nbytes
    np.testing.assert_array_equal(table.values, images)
    np.testing.assert_array_equal(table.labels, np.arange(5))
    assert table.metadata == {"seed": "1"}
    assert not table.values.flags.writeable
