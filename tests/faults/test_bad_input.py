"""Arbitrary input is either valid or refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from distcel.cli.flags import fixed_values
from distcel.data.images import decode_images
from distcel.data.readers import read_source
from distcel.data.sample_table import read_samples
from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import Gradient, Recipe, SelectionParams, VoteName
from distcel.search.trials import TrialStore
from distcel.storage.files import DamagedFileError, content_key, write_checked
from distcel.train.checkpoint import EpochResult

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8)
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner), max_leaves=4
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


def or_refused(make: Callable[[], Any]) -> Any:
    """The result of `make`; None if it refuses in one line."""
    try:
        return make()
    except InvalidInputError as error:
        if "\n" in str(error):
            raise
        return None


def positive(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


def count(value: object) -> bool:
    return type(value) is int and value >= 1


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_any_search_point(k: Any, epsilon: Any, m: Any, lr: Any, gradient: Any, vote: Any) -> None:
    for point in (
        (k, epsilon, m, lr, gradient, vote),
        (3, epsilon, 5, lr, "exact", "learned"),
        (k, 0.1, m, 1, "paper", "sum"),
        (3, 0.1, 5, 1, "exact", vote),
    ):
        made = or_refused(partial(SelectionParams, *point))
        valid = count(point[0]) and positive(point[1]) and count(point[2]) and positive(point[3])
        named = point[4] in get_args(Gradient) and point[5] in get_args(VoteName)
        assert (made is not None) == (valid and named)


@given(ANYTHING, ANYTHING, ANYTHING, ANYTHING)
def test_any_recipe_and_architecture(lr: Any, epochs: Any, momentum: Any, channels: Any) -> None:
    recipe = or_refused(lambda: Recipe("sgd", lr, epochs, 32, momentum=momentum))
    number = type(momentum) in (int, float) and 0 <= momentum < 1
    assert (recipe is not None) == (positive(lr) and count(epochs) and number)
    made = or_refused(lambda: Architecture("lenet", channels))
    widths = type(channels) is tuple and len(channels) == 2 and all(map(count, channels))
    assert (made is not None) == widths
    or_refused(lambda: Architecture(channels))


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_fixed_value_is_accepted_or_refused_in_one_line(
    pairs: list[str],
) -> None:
    for prefix in ("", "k=", "epsilon=", "gradient="):
        or_refused(partial(fixed_values, [prefix + pair for pair in pairs]))


@given(st.data())
def test_any_row_of_a_fer2013_file(tmp_path: Path, data: st.DataObject) -> None:
    pixel = st.integers(0, 255).map(str) | st.text(max_size=4)
    tail = data.draw(st.lists(pixel, max_size=3))
    pixels = " ".join(["7"] * data.draw(st.sampled_from([2304 - len(tail), 2304, 0])) + tail)
    emotion = data.draw(st.integers(-1, 8).map(str) | st.text(max_size=4))
    usages = st.sampled_from(["Training", "PublicTest", "PrivateTest"]) | st.text(max_size=5)
    usage = data.draw(usages)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        data.draw(st.sampled_from([["emotion", " pixels", " Usage"], ["emotion", "b"]]))
    )
    good = " ".join(["9"] * 2304)
    writer.writerows([["3", good, "Training"], ["4", good, "PublicTest"], [emotion, pixels, usage]])
    content = text.getvalue().encode(errors="replace")
    if data.draw(st.booleans()):
        content += data.draw(st.binary(max_size=30))
    (tmp_path / "fer2013.csv").write_bytes(content)
    source = or_refused(lambda: read_source("fer2013", tmp_path))
    if source is not None:
        rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        for row in rows:
            numbers = [int(value) for value in row[" pixels"].split()]
            assert len(numbers) == 2304
            assert min(numbers) >= 0
            assert max(numbers) <= 255
            assert 0 <= int(row["emotion"]) <= 6
        assert len(source.train.labels) + len(source.test.labels) == len(rows)


@given(st.data())
def test_any_idx_file(tmp_path: Path, data: st.DataObject) -> None:
    for name, rank in (("images-idx3", 3), ("labels-idx1", 1)):
        for prefix in ("train", "t10k"):
            sides = data.draw(st.lists(st.integers(0, 3), min_size=rank, max_size=rank))
            magic = data.draw(st.sampled_from([bytes((0, 0, 8, rank)), b"\x00\x00\x09\x01"]))
            size = math.prod(sides) + data.draw(st.sampled_from([0, 0, 0, 1]))
            content = magic + np.array(sides, ">u4").tobytes() + data.draw(st.binary(max_size=9))
            content = content.ljust(4 + 4 * rank + size, b"\x02")
            if data.draw(st.booleans()):
                content = gzip.compress(content)[: data.draw(st.integers(5, 99))]
                (tmp_path / f"{prefix}-{name}-ubyte.gz").write_bytes(content)
            else:
                (tmp_path / f"{prefix}-{name}-ubyte.gz").unlink(missing_ok=True)
                (tmp_path / f"{prefix}-{name}-ubyte").write_bytes(content)
    source = or_refused(lambda: read_source("mnist", tmp_path))
    if source is not None:
        for pool in (source.train, source.test):
            assert len(pool.sample_ids) == len(pool.labels)
            assert all(0 <= label < 10 for label in pool.labels)


def _encoded(image_format: str) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


ENCODED = [_encoded(name) for name in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")]


@given(st.data())
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it then refuses
def test_any_image_file(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(ENCODED) | st.binary(max_size=60)))
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / data.draw(st.sampled_from(["a.png", "a.jpg", "a.eps"]))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    images = or_refused(lambda: decode_images([path], "RGB", 8))
    assert images is None or (images.shape == (1, 3, 8, 8) and images.dtype == np.uint8)


@given(st.data())
def test_any_file_with_the_right_digest_is_a_table_or_refused(
    tmp_path: Path, data: st.DataObject
) -> None:
    table = pa.table({"sample_id": ["a", "b"], "label": [0, 1], "image": [[1, 2], [3, 4]]})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = bytearray(data.draw(st.just(sink.getvalue()) | st.binary(max_size=80)))
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "table.arrow"
    write_checked(path, lambda file: file.write(content))
    with suppress(DamagedFileError):
        read_samples(path, "image")


@given(JSON, st.sampled_from(["params", "epochs", "state", "number", "reason", "extra"]))
def test_any_record_with_the_right_digest_is_a_trial_or_refused(
    tmp_path: Path, value: Any, field: str
) -> None:
    epoch = EpochResult(1, 1.0, 1.0, 0.5, 0.1, 1_800_000_000_000)
    record: dict[str, Any] = {
        "number": 0,
        "params": {"k": 1, "epsilon": 0.1, "m": 1, "lr": 1.0, "gradient": "exact"},
        "state": "COMPLETE",
        "epochs": [vars(epoch)],
        "reason": "",
    }
    record[field] = value
    path = tmp_path / "00000.json"
    path.write_text(json.dumps({**record, "blake2b": content_key(record)}))
    for trial in TrialStore(tmp_path).snapshot():
        assert type(trial.number) is int
        assert trial.number >= 0
        assert count(trial.params.k)
        assert trial.state in ("RUNNING", "COMPLETE", "FAILED")
        assert type(trial.reason) is str
        assert trial.state != "COMPLETE" or 0 <= trial.valid_accuracy <= 1


@given(st.binary(max_size=200))
def test_any_bytes_as_a_record(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "00001.json").write_bytes(content)
    assert TrialStore(tmp_path).snapshot() == []


def test_a_link_that_leaves_the_data_directory_is_refused(tmp_path: Path) -> None:
    outside, inside = tmp_path / "secret.png", tmp_path / "data" / "train" / "ant"
    inside.mkdir(parents=True)
    Image.new("L", (4, 4)).save(outside)
    (inside / "a.png").symlink_to(outside)
    with pytest.raises(InvalidInputError, match=r"links that stay.*ant/a\.png"):
        read_source("folder", tmp_path / "data")
    (inside / "a.png").unlink()
    (tmp_path / "data" / "test").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match=r"links that stay.*data/test"):
        read_source("folder", tmp_path / "data")


def test_networks_are_loaded_without_unpickling(tmp_path: Path) -> None:
    from distcel.core.pretrained import imagenet_weights

    class Owned:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"fc.weight": Owned(), "net": nn.Linear(1, 1)}, tmp_path / "weights.pth")
    with pytest.raises(InvalidInputError):
        imagenet_weights("resnet18", str(tmp_path / "weights.pth"))
    assert not (tmp_path / "owned").exists()
