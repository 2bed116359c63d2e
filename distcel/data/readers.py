"""Reads every data set in the layouts that it is distributed in.

A reader takes the data directory and returns a Source. Nothing is downloaded, extracted or
unpickled, except torchvision's CIFAR-10 batches, whose MD5 sums torchvision checks first.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distcel.data.folders import image_folders
from distcel.data.formats import (
    Source,
    array_pool,
    fer2013_csv,
    file_pool,
    idx_reader,
    numbered,
)
from distcel.data.images import SUFFIXES, by_suffix, folders_below, image_files
from distcel.experiment.errors import invalid, require

logger = logging.getLogger(__name__)

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
)
AGE_CLASSES = ("0-5", "6-19", "20-33", "34-56", "over-56")
AGE_UPPER_BOUNDS = (5, 19, 33, 56)


def read_source(dataset: str, data_dir: Path) -> Source:
    """Find a data set and read its labels.

    Args:
        dataset: a key of READERS.
        data_dir: the folder of the data set, or of its usual subfolder.

    Raises:
        InvalidInputError: unknown data set, nothing found, or something unreadable.
    """
    require(dataset in READERS, f"dataset in {sorted(READERS)}", dataset, "choose one of these")
    reader = READERS[dataset]
    if dataset != "digits":
        for _ in _walk(data_dir):  # refuses links that lead out, and unreadable folders
            pass
    for folder in (data_dir / name for name in reader.folders):
        source = reader.read(folder) if folder.is_dir() or dataset == "digits" else None
        if source is not None:
            return source
    rule = f"a data directory with {reader.layouts}"
    raise invalid(rule, repr(str(data_dir)), reader.remedy)


def _walk(data_dir: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder once, with its file names; raises an error for links out of the directory."""
    root = os.path.realpath(data_dir)
    for folder, children, names in folders_below(data_dir):
        for path in (f"{folder}/{name}" for name in [*children, *names]):
            if os.path.islink(path):  # noqa: PTH114 -- a Path each takes five times as long
                inside = os.path.commonpath([root, os.path.realpath(path)]) == root
                remedy = "give --data-dir the folder that it leads to, or copy that"
                require(inside, "links that stay in the data directory", path, remedy)
        yield folder, names


def source_stamp(data_dir: Path) -> list[tuple[str, int, int, int, int]]:
    """Name, size, times of modification and of status change (ns), and inode of every data file.

    They are sorted. `cp -p` and `rsync -t` keep size and modification time of another file, but
    neither its inode nor its status change.

    Raises:
        InvalidInputError: a link leads out of the directory.
    """
    stamps = []
    for folder, names in _walk(data_dir):
        for name in names:
            path = Path(folder, name)
            if _is_data(name) and path.is_file():
                status = path.stat()
                relative = path.relative_to(data_dir).as_posix()
                times = (status.st_mtime_ns, status.st_ctime_ns)
                stamps.append((relative, status.st_size, *times, status.st_ino))
    return sorted(stamps)


def _is_data(name: str) -> bool:
    idx_or_batch = name.endswith(("ubyte", "ubyte.gz")) or name.startswith(("data_", "test_batch"))
    return idx_or_batch or Path(name).suffix.lower() in {*SUFFIXES, ".csv"}


def _read_digits(_: Path) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    pool = array_pool(numbered("digits", len(labels)), labels, images)
    return Source(tuple("0123456789"), pool, None)


def _read_cifar10(folder: Path) -> Source | None:
    if not (folder / "cifar-10-batches-py").is_dir():
        return image_folders(folder, "RGB", CIFAR10_CLASSES)
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(str(folder), train=train) for train in (True, False)]
    except RuntimeError:
        found, rule = str(folder / "cifar-10-batches-py"), "files of torchvision's MD5 sums"
        raise invalid(rule, repr(found), "download it again") from None
    pools = [
        array_pool(
            numbered(split, len(part.targets)),
            np.array(part.targets, np.int64),
            part.data.transpose(0, 3, 1, 2),
        )
        for split, part in zip(("train", "test"), parts, strict=True)
    ]
    return Source(CIFAR10_CLASSES, pools[0], pools[1])


def _read_fer2013(folder: Path) -> Source | None:
    for name in ("fer2013.csv", "icml_face_data.csv"):
        if (folder / name).is_file():
            return fer2013_csv(folder / name, FER2013_CLASSES)
    return image_folders(folder, "L", FER2013_CLASSES)


def _read_utkface(folder: Path) -> Source | None:
    """Read files named age_gender_race_date.jpg; the first field determines the age class.

    Only files directly in the folder count: an archive may have every photograph in two subfolders.
    """
    images, others = image_files(folder)
    files = [path for path in images if path.parent == folder]
    ages = {path: re.match(r"(\d{1,3})_", path.name) for path in files}
    named = [(path, int(age[1])) for path, age in ages.items() if age]
    if not named:
        return None
    if unnamed := [path for path, age in ages.items() if not age]:
        first = str(unnamed[0])
        logger.warning("skipped %d files without an age, the first %r", len(unnamed), first)
    if skipped := [path for path in others if path.parent == folder]:
        text = "skipped %d files in %r of a suffix that is not read: %s"
        logger.warning(text, len(skipped), str(folder), by_suffix(skipped))
    labels = np.searchsorted(AGE_UPPER_BOUNDS, [age for _, age in named]).astype(np.int64)
    return Source(AGE_CLASSES, file_pool(folder, [p for p, _ in named], labels, "RGB"), None)


def _read_folder(folder: Path) -> Source | None:
    return image_folders(folder, "RGB", None)


@dataclass(frozen=True)
class Reader:
    """The function that reads a data set, its usual folders, and the remedy if it is missing."""

    read: Callable[[Path], Source | None]
    folders: tuple[str, ...]
    layouts: str
    remedy: str


_TORCHVISION = (
    "run `python -c \"from torchvision.datasets import {0}; {0}('data', download=True)\"`"
)

READERS: dict[str, Reader] = {
    "digits": Reader(_read_digits, (".",), "nothing", "it is inside scikit-learn"),
    "mnist": Reader(
        idx_reader(tuple("0123456789")),
        ("MNIST/raw", "mnist", "raw", "."),
        "the four MNIST files *-ubyte or *-ubyte.gz",
        _TORCHVISION.format("MNIST") + " and give --data-dir data",
    ),
    "fashion_mnist": Reader(
        idx_reader(FASHION_CLASSES),
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
        ("UTKFace", "utkface", "crop_part1", "part1", "."),
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
