"""A small pool of predictors and its truth, as files that others would give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
from numpy.typing import NDArray

from distcel.data.answers import Answers, read_answers

CLASSES = ("ant", "bee", "cow")
LABELS = [CLASSES[i % 3] for i in range(60)]
IDS = [f"{i:03d}" for i in range(60)]  # as numbers they would lose their zeros
Columns = Mapping[str, Any]


def write(path: Path, columns: Columns) -> Path:
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".feather":
        feather.write_feather(table, path)
    else:
        opened = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with opened(path, table.schema) as writer:
            writer.write_table(table)
    return path


def labels(wrong_every: int = 4, confidence: float = 0.75) -> Columns:
    """Labels of which each `wrong_every`-th is that of the next class."""
    said = [CLASSES[(i + (i % wrong_every == 0)) % 3] for i in range(60)]
    return {"sample_id": IDS, "label": said, "confidence": [confidence] * 60}


def distributions(seed: int = 0) -> NDArray[np.float32]:
    """Rows of 3 probabilities, (60, 3), all digits of them in use."""
    return np.random.default_rng(seed).dirichlet([1, 1, 1], 60).astype(np.float32)


def class_columns(rows: NDArray[np.float32]) -> Columns:
    return {"sample_id": IDS, **{name: rows[:, c] for c, name in enumerate(CLASSES)}}


def write_pool(folder: Path) -> Path:
    """`truth.csv`, `prices.json` and three predictors, two with labels, in one folder."""
    write(folder / "truth.csv", {"sample_id": IDS, "label": LABELS})
    write(folder / "first.csv", labels(4))
    write(folder / "second.csv", labels(3))
    write(folder / "third.csv", class_columns(distributions()))
    (folder / "prices.json").write_text('{"first": 1, "second": 0.5, "third": 0}')
    return folder


def read(folder: Path, *always: str, seed: int = 0) -> Answers:
    """What the pool answers; the prices are given, as they lie in its folder."""
    prices = folder / "prices.json"
    return read_answers(
        folder, folder / "truth.csv", always=always or ["first"], prices=prices, seed=seed
    )
