"""Samples in the formats of their data sets: IDX files and FER2013's table.

Nothing is extracted or unpickled, and image files are decoded only when they are needed.
"""

from __future__ import annotations

import csv
import gzip
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distcel.data.images import Images, decode_images, resize_images
from distcel.experiment.errors import invalid, require

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]

_MAX_IDX_BYTES = 2**28  # five times MNIST's largest file


@dataclass(frozen=True)
class Pool:
    """Samples before they are split: S ids, labels of shape (S,) and a function that reads images.

    `read` takes indices of samples, shape (B,), and the side to resize to (None keeps it), and
    returns images (B, channels, H, W). Only images that are in a split are decoded.
    """

    sample_ids: tuple[str, ...]
    labels: Labels
    read: Callable[[Indices, int | None], Images]


@dataclass(frozen=True)
class Source:
    """A data set as it is on disk; `test` is None if it comes without a test split."""

    class_names: tuple[str, ...]
    train: Pool
    test: Pool | None


def array_pool(sample_ids: tuple[str, ...], labels: Labels, images: Images) -> Pool:
    """Samples whose images are in memory, (S, channels, H, W)."""
    return Pool(sample_ids, labels, lambda chosen, size: resize_images(images[chosen], size))


def file_pool(folder: Path, paths: list[Path], labels: Labels, mode: str) -> Pool:
    """Samples whose images are files in a folder, of Pillow's mode `L` or `RGB`.

    Raises:
        InvalidInputError: a file's name is not in UTF-8, or the locale has another encoding.
    """
    ids = tuple(path.relative_to(folder).as_posix() for path in paths)
    locale = sys.getfilesystemencoding()
    for sample_id in ids:
        rule, remedy = "a locale in UTF-8, as a file's name is not ASCII", "set LC_ALL=C.UTF-8"
        require(sample_id.isascii() or locale == "utf-8", rule, locale, remedy)
        encodable = sample_id.encode(errors="replace").decode() == sample_id
        require(encodable, "file names in UTF-8", sample_id, f"rename it in {folder}")

    def read(chosen: Indices, image_size: int | None) -> Images:
        return decode_images([paths[i] for i in chosen], mode, image_size)

    return Pool(ids, labels, read)


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    """Ids for samples that have no names."""
    return tuple(f"{prefix}/{i:05d}" for i in range(count))


def idx_reader(class_names: tuple[str, ...]) -> Callable[[Path], Source | None]:
    """A reader of a folder of MNIST's four files; it returns None if one is missing."""

    def read(folder: Path) -> Source | None:
        pools = []
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images_path = _either(folder / f"{prefix}-images-idx3-ubyte")
            labels_path = _either(folder / f"{prefix}-labels-idx1-ubyte")
            if images_path is None or labels_path is None:
                return None
            images, labels = _idx_array(images_path, 3), _idx_array(labels_path, 1)
            consistent = len(images) == len(labels) and labels.max(initial=0) < len(class_names)
            require(consistent, "one label 0-9 an image", str(labels_path), "download it again")
            ids = numbered(split, len(labels))
            pools.append(array_pool(ids, labels.astype(np.int64), images[:, None]))
        return Source(class_names, pools[0], pools[1])

    return read


def _either(path: Path) -> Path | None:
    compressed = path.with_name(path.name + ".gz")
    return next((p for p in (compressed, path) if p.is_file()), None)


def _idx_array(path: Path, rank: int) -> Images:
    """An IDX file: two zero bytes, type 8 (uint8), the rank, big-endian sides, then the bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MAX_IDX_BYTES + 1)
        if len(content) > _MAX_IDX_BYTES:
            raise ValueError(f"it holds more than {_MAX_IDX_BYTES} bytes")
        if content[:4] != bytes((0, 0, 8, rank)):
            raise ValueError("it does not begin as an IDX file of bytes")
        shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        found = f"{str(path)!r} ({error})"
        raise invalid("a readable IDX file of bytes", found, "download it again") from None


def fer2013_csv(path: Path, class_names: tuple[str, ...]) -> Source:
    """Columns emotion, pixels (2,304 numbers) and Usage; sample ids are Usage_row.

    Raises:
        InvalidInputError: a row is invalid, or there are no rows of train or of test.
    """
    rows: dict[bool, list[tuple[str, int, Images]]] = {True: [], False: []}
    number = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file)):
                usage, label, image = _fer2013_row(row, len(class_names))
                rows[usage == "Training"].append((f"{usage}_{number}", label, image))
    except (
        csv.Error,
        KeyError,
        ValueError,
        AttributeError,
        OverflowError,
        TypeError,
        OSError,
    ) as error:
        rule = "an emotion 0-6, a Usage and 2304 pixels 0-255 in every row"
        found = f"data row {number} of {path} ({error})"
        raise invalid(rule, found, "download it again") from None
    for is_train, part in ((True, "Training"), (False, "PublicTest or PrivateTest")):
        require(len(rows[is_train]) > 0, f"rows with Usage {part}", str(path), "download it again")
    pools = []
    for is_train in (True, False):
        ids, labels, images = zip(*rows[is_train], strict=True)
        pools.append(array_pool(ids, np.array(labels, np.int64), np.stack(images)))
    return Source(class_names, pools[0], pools[1])


def _fer2013_row(raw: dict[str, str], n_classes: int) -> tuple[str, int, Images]:
    row = {(key or "").strip(): value for key, value in raw.items()}
    usage, label = row["Usage"].strip(), int(row["emotion"])
    pixels = np.array(row["pixels"].split(), dtype=np.int64)
    if usage not in ("Training", "PublicTest", "PrivateTest"):
        raise ValueError(f"Usage {usage!r}")
    if not 0 <= label < n_classes:
        raise ValueError(f"emotion {label}")
    if pixels.shape != (48 * 48,) or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"{pixels.size} pixels")
    return usage, label, pixels.astype(np.uint8).reshape(1, 48, 48)
