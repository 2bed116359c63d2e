"""Reads every data set in the layouts that people have it in.

A reader takes the data directory and gives a Source. Nothing is downloaded, extracted or
unpickled, but for torchvision's CIFAR-10 batches, whose MD5 sums torchvision checks first.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distcel.image_files import SUFFIXES, Images, decode_images, image_files, resize_images
from distcel.types import InvalidInputError, require

Labels = NDArray[np.int64]
Indices = NDArray[np.int64]

FER2013_CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
)
FASHION_CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
AGE_CLASSES = ("0-5", "6-19", "20-33", "34-56", "over-56")
_MAX_IDX_BYTES = 2**28  # five times MNIST's largest file
AGE_UPPER_BOUNDS = (5, 19, 33, 56)


@dataclass(frozen=True)
class Pool:
    """Samples before they are split: ids of length S, labels (S,) and how to read their images.

    `read` takes indices of samples, shape (B,), and the side to resize to (None keeps it), and
    gives images (B, channels, H, W): only what ends up in a split is decoded.
    """

    sample_ids: tuple[str, ...]
    labels: Labels
    read: Callable[[Indices, int | None], Images]


@dataclass(frozen=True)
class Source:
    """A data set as it was found; `test` is None where it comes without a test split."""

    class_names: tuple[str, ...]
    train: Pool
    test: Pool | None


def read_source(dataset: str, data_dir: Path) -> Source:
    """Find a data set and read its labels.

    Args:
        dataset: a key of READERS.
        data_dir: the folder that holds it, itself or in one of its usual subfolders.

    Raises:
        InvalidInputError: unknown data set, nothing found, or something unreadable.
    """
    require(dataset in READERS, f"dataset in {sorted(READERS)}", dataset, "choose one of these")
    reader = READERS[dataset]
    if dataset != "digits":
        for _ in _walk(data_dir):  # refuses links that lead out
            pass
    for folder in (data_dir / name for name in reader.folders):
        source = reader.read(folder) if folder.is_dir() or dataset == "digits" else None
        if source is not None:
            return source
    raise InvalidInputError(
        f"a data directory with {reader.layouts} must exist, but got {str(data_dir)!r}: "
        f"{reader.remedy}"
    )


def _walk(data_dir: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder with its file names, once each; no link may lead out of the directory."""
    root = os.path.realpath(data_dir)
    seen = {root}
    for folder, children, names in os.walk(data_dir, followlinks=True):
        for path in (f"{folder}/{name}" for name in [*children, *names]):
            if os.path.islink(path):  # noqa: PTH114 -- a Path each takes five times as long
                inside = os.path.commonpath([root, os.path.realpath(path)]) == root
                remedy = "give --data-dir the folder that it leads to, or copy it"
                require(inside, "links that stay in the data directory", path, remedy)
        yield folder, names
        children[:] = [c for c in children if os.path.realpath(f"{folder}/{c}") not in seen]
        seen |= {os.path.realpath(f"{folder}/{child}") for child in children}


def source_stamp(data_dir: Path) -> list[tuple[str, int, int]]:
    """Name, size and modification time (ns) of every data file below the directory, sorted.

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
                stamps.append((relative, status.st_size, status.st_mtime_ns))
    return sorted(stamps)


def _is_data(name: str) -> bool:
    idx_or_batch = name.endswith(("ubyte", "ubyte.gz")) or name.startswith(("data_", "test_batch"))
    return idx_or_batch or Path(name).suffix.lower() in {*SUFFIXES, ".csv"}


def _array_pool(sample_ids: tuple[str, ...], labels: Labels, images: Images) -> Pool:
    return Pool(sample_ids, labels, lambda chosen, size: resize_images(images[chosen], size))


def _file_pool(folder: Path, paths: list[Path], labels: Labels, mode: str) -> Pool:
    ids = tuple(path.relative_to(folder).as_posix() for path in paths)
    for sample_id in ids:
        encodable = sample_id.encode(errors="replace").decode() == sample_id
        require(encodable, "file names in UTF-8", sample_id, f"rename it in {folder}")

    def read(chosen: Indices, image_size: int | None) -> Images:
        return decode_images([paths[i] for i in chosen], mode, image_size)

    return Pool(ids, labels, read)


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}/{i:05d}" for i in range(count))


def _read_digits(_: Path) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    pool = _array_pool(_numbered("digits", len(labels)), labels, images)
    return Source(tuple("0123456789"), pool, None)


def _read_idx(class_names: tuple[str, ...]) -> Callable[[Path], Source | None]:
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
            ids = _numbered(split, len(labels))
            pools.append(_array_pool(ids, labels.astype(np.int64), images[:, None]))
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
        raise InvalidInputError(f"cannot read {path}: {error}; download it again") from None


def _read_cifar10(folder: Path) -> Source | None:
    if not (folder / "cifar-10-batches-py").is_dir():
        return _image_folders(folder, "RGB", CIFAR10_CLASSES)
    from torchvision.datasets import CIFAR10

    try:
        parts = [CIFAR10(str(folder), train=train) for train in (True, False)]
    except RuntimeError:
        raise InvalidInputError(
            f"{folder / 'cifar-10-batches-py'} fails torchvision's MD5 check: download it again"
        ) from None
    pools = [
        _array_pool(
            _numbered(split, len(part.targets)),
            np.array(part.targets, np.int64),
            part.data.transpose(0, 3, 1, 2),
        )
        for split, part in zip(("train", "test"), parts, strict=True)
    ]
    return Source(CIFAR10_CLASSES, pools[0], pools[1])


def _read_fer2013(folder: Path) -> Source | None:
    for name in ("fer2013.csv", "icml_face_data.csv"):
        if (folder / name).is_file():
            return _fer2013_csv(folder / name)
    return _image_folders(folder, "L", FER2013_CLASSES)


def _fer2013_csv(path: Path) -> Source:
    """Columns emotion, pixels (2,304 numbers) and Usage; sample ids are Usage_row."""
    rows: dict[bool, list[tuple[str, int, Images]]] = {True: [], False: []}
    number = 0
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file)):
                usage, label, image = _fer2013_row(row)
                rows[usage == "Training"].append((f"{usage}_{number}", label, image))
    except (csv.Error, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise InvalidInputError(
            f"every row must have an emotion 0-6, a Usage and 2304 pixels 0-255, but got "
            f"data row {number} of {path} ({error}): download it again"
        ) from None
    for is_train, part in ((True, "Training"), (False, "PublicTest or PrivateTest")):
        require(len(rows[is_train]) > 0, f"rows with Usage {part}", str(path), "download it again")
    pools = []
    for is_train in (True, False):
        ids, labels, images = zip(*rows[is_train], strict=True)
        pools.append(_array_pool(ids, np.array(labels, np.int64), np.stack(images)))
    return Source(FER2013_CLASSES, pools[0], pools[1])


def _fer2013_row(raw: dict[str, str]) -> tuple[str, int, Images]:
    row = {(key or "").strip(): value for key, value in raw.items()}
    usage, label = row["Usage"].strip(), int(row["emotion"])
    pixels = np.array(row["pixels"].split(), dtype=np.int64)
    if usage not in ("Training", "PublicTest", "PrivateTest"):
        raise ValueError(f"Usage {usage!r}")
    if not 0 <= label < len(FER2013_CLASSES):
        raise ValueError(f"emotion {label}")
    if pixels.shape != (48 * 48,) or pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"{pixels.size} pixels")
    return usage, label, pixels.astype(np.uint8).reshape(1, 48, 48)


def _read_utkface(folder: Path) -> Source | None:
    """Files named age_gender_race_date.jpg; the age class needs the first field alone.

    Only those directly in the folder: an archive may hold every photograph in two subfolders.
    """
    files = [path for path in image_files(folder) if path.parent == folder]
    ages = {path: re.match(r"(\d{1,3})_", path.name) for path in files}
    named = [(path, int(age[1])) for path, age in ages.items() if age]
    if not named:
        return None
    unnamed = [path for path, age in ages.items() if not age]
    if unnamed:
        print(f"skipped {len(unnamed)} files without an age, the first {unnamed[0]}")
    labels = np.searchsorted(AGE_UPPER_BOUNDS, [age for _, age in named]).astype(np.int64)
    return Source(AGE_CLASSES, _file_pool(folder, [p for p, _ in named], labels, "RGB"), None)


def _read_folder(folder: Path) -> Source | None:
    return _image_folders(folder, "RGB", None)


def _image_folders(folder: Path, mode: str, class_names: tuple[str, ...] | None) -> Source | None:
    """`{train,test}/<class>/*`; also `<class>/*` where the class names are not given."""
    children = {child.name.lower(): child for child in folder.iterdir() if child.is_dir()}
    others = sorted(_OTHER_SPLITS & set(children))
    if others and ("train" in children or set(children) <= _OTHER_SPLITS | {"test"}):
        remedy = f"rename them in {folder}; the valid split is drawn from train"
        require(False, "split folders named train and test", others, remedy)
    if "train" in children:
        train, test = (_files_by_class(children.get(name)) for name in ("train", "test"))
        if class_names is not None:
            rule = "images in train and in test"
            require(bool(train and test), rule, str(folder), "get the whole data set")
    elif class_names is None:
        train, test = _files_by_class(folder), {}
    else:
        return None
    if not train:
        return None
    names = class_names or tuple(train)
    strangers = sorted((set(train) | set(test)) - set(names))
    require(not strangers, f"classes among {names}", strangers, f"rename them in {folder}")

    def pool(files: dict[str, list[Path]]) -> Pool:
        labelled = [(path, c) for c, name in enumerate(names) for path in files.get(name, [])]
        labels = np.array([label for _, label in labelled], np.int64)
        return _file_pool(folder, [path for path, _ in labelled], labels, mode)

    return Source(names, pool(train), pool(test) if test else None)


_OTHER_SPLITS = {"val", "valid", "validation", "training", "testing"}


def _files_by_class(folder: Path | None) -> dict[str, list[Path]]:
    """The image files of each subfolder that has any."""
    if folder is None:
        return {}
    files = {child.name: image_files(child) for child in sorted(folder.iterdir())}
    return {name: paths for name, paths in files.items() if paths and not name.startswith(".")}


@dataclass(frozen=True)
class Reader:
    """How one data set is read, where it is looked for, and what to say when it is not there."""

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
