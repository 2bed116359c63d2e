"""Reads every data set in the layouts that people have it in.

A reader takes the data directory and gives a Source. Nothing is downloaded, extracted or
unpickled, but for torchvision's CIFAR-10 batches, whose MD5 sums torchvision checks first.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distcel.image_files import Images, decode_images, image_files, resize_images
from distcel.types import InvalidInputError, require

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
AGE_CLASSES = ("0-5", "6-19", "20-33", "34-56", "over-56")
AGE_UPPER_BOUNDS = (5, 19, 33, 56)


@dataclass(frozen=True)
class Pool:
    """Samples before they are split: ids of length S, labels (S,), images (S, channels, H, W)."""

    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    images: Images


@dataclass(frozen=True)
class Source:
    """A data set as it was found; `test` is None where it comes without a test split."""

    class_names: tuple[str, ...]
    train: Pool
    test: Pool | None


def read_source(dataset: str, data_dir: Path, image_size: int | None) -> Source:
    """Read a data set.

    Args:
        dataset: a key of READERS.
        data_dir: the folder that holds it, itself or in one of its usual subfolders.
        image_size: side that images are resized to; None keeps their own.

    Raises:
        InvalidInputError: unknown data set, nothing found, or something unreadable.
    """
    require(dataset in READERS, f"dataset in {sorted(READERS)}", dataset, "choose one of these")
    reader = READERS[dataset]
    if reader.folders:
        folders = [data_dir / name for name in reader.folders if (data_dir / name).is_dir()]
        source = next(filter(None, (reader.read(folder, image_size) for folder in folders)), None)
    else:
        source = reader.read(data_dir, image_size)
    if source is None:
        raise InvalidInputError(
            f"a data directory with {reader.layouts} must exist, but got {str(data_dir)!r}: "
            f"{reader.remedy}"
        )
    return source


def source_stamp(data_dir: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time (ns) of every file below the directory, sorted."""
    stamps = []
    for folder, _, names in os.walk(data_dir):
        for name in names:
            status = (Path(folder) / name).stat()
            relative = os.path.relpath(Path(folder) / name, data_dir)
            stamps.append((relative, status.st_size, status.st_mtime_ns))
    return sorted(stamps)


def _read_digits(_: Path, image_size: int | None) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    pool = _pool("digits", labels, resize_images(images, image_size))
    return Source(tuple("0123456789"), pool, None)


def _read_idx(class_names: tuple[str, ...]) -> Callable[[Path, int | None], Source | None]:
    def read(folder: Path, image_size: int | None) -> Source | None:
        pools = []
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images_path = _either(folder / f"{prefix}-images-idx3-ubyte")
            labels_path = _either(folder / f"{prefix}-labels-idx1-ubyte")
            if images_path is None or labels_path is None:
                return None
            images, labels = _idx_array(images_path), _idx_array(labels_path)
            consistent = len(images) == len(labels) and labels.max(initial=0) < len(class_names)
            require(consistent, "one label 0-9 an image", str(labels_path), "download it again")
            resized = resize_images(images[:, None], image_size)
            pools.append(_pool(split, labels.astype(np.int64), resized))
        return Source(class_names, pools[0], pools[1])

    return read


def _either(path: Path) -> Path | None:
    compressed = path.with_name(path.name + ".gz")
    return next((p for p in (compressed, path) if p.is_file()), None)


def _idx_array(path: Path) -> Images:
    """An IDX file: two zero bytes, type 8 (uint8), the rank, big-endian sides, then the bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rank = content[3]
        shape = np.frombuffer(content, dtype=">u4", count=rank, offset=4)
        if content[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as an IDX file of bytes")
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (ValueError, IndexError, EOFError, OSError) as error:
        raise InvalidInputError(f"cannot read {path}: {error}; download it again") from None


def _read_cifar10(folder: Path, image_size: int | None) -> Source | None:
    if (folder / "cifar-10-batches-py").is_dir():
        from torchvision.datasets import CIFAR10

        try:
            parts = [CIFAR10(str(folder), train=train) for train in (True, False)]
        except RuntimeError:
            raise InvalidInputError(
                f"{folder / 'cifar-10-batches-py'} fails torchvision's MD5 check: download it again"
            ) from None
        pools = [
            _pool(split, np.array(part.targets, np.int64), part.data.transpose(0, 3, 1, 2))
            for split, part in zip(("train", "test"), parts, strict=True)
        ]
        resized = [Pool(p.sample_ids, p.labels, resize_images(p.images, image_size)) for p in pools]
        return Source(CIFAR10_CLASSES, resized[0], resized[1])
    return _image_folders(folder, "RGB", image_size, CIFAR10_CLASSES)


def _read_fer2013(folder: Path, image_size: int | None) -> Source | None:
    for name in ("fer2013.csv", "icml_face_data.csv"):
        if (folder / name).is_file():
            return _fer2013_csv(folder / name, image_size)
    return _image_folders(folder, "L", image_size, FER2013_CLASSES)


def _fer2013_csv(path: Path, image_size: int | None) -> Source:
    """Columns emotion, pixels (2,304 numbers) and Usage; sample ids are Usage_row."""
    ids: dict[bool, list[str]] = {True: [], False: []}
    labels: dict[bool, list[int]] = {True: [], False: []}
    images: dict[bool, list[Images]] = {True: [], False: []}
    with path.open(newline="") as file:
        for number, raw in enumerate(csv.DictReader(file)):
            row = {(key or "").strip(): value for key, value in raw.items()}
            try:
                usage, label = row["Usage"].strip(), int(row["emotion"])
                pixels = np.array(row["pixels"].split(), dtype=np.int64)
                valid = usage in ("Training", "PublicTest", "PrivateTest") and 0 <= label < 7
                if not valid or pixels.shape != (2304,) or pixels.min() < 0 or pixels.max() > 255:
                    raise ValueError("a Usage, an emotion 0-6 and 2304 pixels 0-255 are needed")
            except (KeyError, ValueError, AttributeError) as error:
                raise InvalidInputError(f"cannot read {path}, data row {number}: {error}") from None
            is_train = usage == "Training"
            ids[is_train].append(f"{usage}_{number}")
            labels[is_train].append(label)
            images[is_train].append(pixels.astype(np.uint8).reshape(1, 48, 48))
    for is_train, part in ((True, "Training"), (False, "PublicTest or PrivateTest")):
        require(len(ids[is_train]) > 0, f"rows with Usage {part}", str(path), "download it again")
    pools = [
        Pool(
            tuple(ids[is_train]),
            np.array(labels[is_train], np.int64),
            resize_images(np.stack(images[is_train]), image_size),
        )
        for is_train in (True, False)
    ]
    return Source(FER2013_CLASSES, pools[0], pools[1])


def _read_utkface(folder: Path, image_size: int | None) -> Source | None:
    """Files named age_gender_race_date.jpg; the age class needs the first field alone."""
    files = image_files(folder)
    ages = [re.match(r"(\d{1,3})_", path.name) for path in files]
    named = [(path, int(age[1])) for path, age in zip(files, ages, strict=True) if age]
    if not named:
        return None
    if len(named) < len(files):
        unnamed = next(path for path, age in zip(files, ages, strict=True) if not age)
        count = len(files) - len(named)
        print(f"skipped {count} files whose name begins with no age, as {unnamed}", file=sys.stderr)
    labels = np.searchsorted(AGE_UPPER_BOUNDS, [age for _, age in named]).astype(np.int64)
    ids = tuple(str(path.relative_to(folder)) for path, _ in named)
    images = decode_images([path for path, _ in named], "RGB", image_size)
    return Source(AGE_CLASSES, Pool(ids, labels, images), None)


def _read_folder(folder: Path, image_size: int | None) -> Source | None:
    return _image_folders(folder, "RGB", image_size, None)


def _image_folders(
    folder: Path, mode: str, image_size: int | None, class_names: tuple[str, ...] | None
) -> Source | None:
    """`{train,test}/<class>/*`, or `<class>/*` without a test split; None without images."""
    roots = {name: folder / name for name in ("train", "test") if (folder / name).is_dir()}
    if "train" not in roots:
        roots = {"train": folder}
    if class_names is None:
        class_names = tuple(sorted(p.name for p in roots["train"].iterdir() if image_files(p)))
    pools = {}
    for split, root in roots.items():
        strangers = [p.name for p in root.iterdir() if p.name not in class_names and image_files(p)]
        files = [
            (path, c) for c, name in enumerate(class_names) for path in image_files(root / name)
        ]
        if not files:
            return None
        require(not strangers, f"classes among {class_names}", strangers, f"rename them in {root}")
        ids = tuple(str(path.relative_to(folder)) for path, _ in files)
        labels = np.array([label for _, label in files], np.int64)
        pools[split] = Pool(
            ids, labels, decode_images([path for path, _ in files], mode, image_size)
        )
    return Source(class_names, pools["train"], pools.get("test"))


def _pool(prefix: str, labels: NDArray[np.int64], images: Images) -> Pool:
    return Pool(tuple(f"{prefix}/{i:05d}" for i in range(len(labels))), labels, images)


@dataclass(frozen=True)
class Reader:
    """How one data set is read, where it is looked for, and what to say when it is not there."""

    read: Callable[[Path, int | None], Source | None]
    folders: tuple[str, ...]
    layouts: str
    remedy: str


_TORCHVISION = (
    "run `python -c \"from torchvision.datasets import {0}; {0}('data', download=True)\"`"
)

READERS: dict[str, Reader] = {
    "digits": Reader(_read_digits, (), "nothing", "it is inside scikit-learn"),
    "mnist": Reader(
        _read_idx(tuple("0123456789")),
        ("MNIST/raw", "mnist", "raw", "."),
        "the four MNIST files *-ubyte or *-ubyte.gz",
        _TORCHVISION.format("MNIST") + " and give --data-dir data",
    ),
    "fashion_mnist": Reader(
        _read_idx(FASHION_CLASSES),
        ("FashionMNIST/raw", "fashion_mnist", "fashion-mnist", "raw", "."),
        "the four Fashion-MNIST files *-ubyte or *-ubyte.gz",
        _TORCHVISION.format("FashionMNIST") + " and give --data-dir data",
    ),
    "cifar10": Reader(
        _read_cifar10,
        ("cifar10", "CIFAR10", "cifar-10", "."),
        "cifar-10-batches-py/ or {train,test}/<class>/*",
        _TORCHVISION.format("CIFAR10") + " and give --data-dir data",
    ),
    "fer2013": Reader(
        _read_fer2013,
        ("fer2013", "FER2013", "fer-2013", "."),
        "fer2013.csv, icml_face_data.csv or {train,test}/<emotion>/*",
        "download https://www.kaggle.com/datasets/msambare/fer2013 (account needed), unpack it to "
        "data/fer2013 and give --data-dir data",
    ),
    "utkface": Reader(
        _read_utkface,
        ("UTKFace", "utkface", "crop_part1", "."),
        "images named age_gender_race_date.jpg",
        "download the aligned and cropped faces from https://susanqq.github.io/UTKFace/, unpack "
        "them to data/UTKFace and give --data-dir data",
    ),
    "folder": Reader(
        _read_folder,
        (".",),
        "{train,test}/<class>/* or <class>/* images",
        "give --data-dir the folder that holds your classes' folders",
    ),
}
