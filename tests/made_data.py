"""Small data sets made on the spot, in the layouts that people have the real ones in."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distcel.data.readers import AGE_UPPER_BOUNDS, CIFAR10_CLASSES, FER2013_CLASSES

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def pictures(labels: NDArray[np.int64], channels: int, side: int, seed: int) -> NDArray[np.uint8]:
    """Noise with a bright square whose place tells the class, (S, channels, side, side)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 80, (len(labels), channels, side, side), dtype=np.uint8)
    size = side // 4
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[:, row * size : (row + 1) * size, column * size : (column + 1) * size] = 250
    return images


def balanced(n_classes: int, per_class: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(n_classes), per_class)


def write_idx(folder: Path, per_class: int = 12, compressed: bool = True) -> None:
    folder.mkdir(parents=True)
    labels = balanced(10, per_class)
    for prefix, seed in (("train", 0), ("t10k", 1)):
        images = pictures(labels, 1, 28, seed)[:, 0]
        for kind, array in (
            ("images-idx3", images),
            ("labels-idx1", labels.astype(np.uint8)),
        ):
            head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            content = head + array.tobytes()
            name = f"{prefix}-{kind}-ubyte"
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def write_images(
    folder: Path, class_names: tuple[str, ...], per_class: int, channels: int, side: int, seed: int
) -> None:
    """`folder/<class>/<number>.png`."""
    for label, name in enumerate(class_names):
        (folder / name).mkdir(parents=True)
        images = pictures(np.full(per_class, label), channels, side, seed + label)
        for number, image in enumerate(images):
            save_image(image, folder / name / f"{number:04d}.png")


def save_image(image: NDArray[np.uint8], path: Path) -> None:
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def write_cifar10(folder: Path, per_class: int = 12) -> None:
    write_images(folder / "train", CIFAR10_CLASSES, per_class, 3, 32, 0)
    write_images(folder / "test", CIFAR10_CLASSES, 4, 3, 32, 100)


def write_fer2013_folders(folder: Path, per_class: int = 12) -> None:
    for split, usages in (("train", ("Training",)), ("test", ("PublicTest", "PrivateTest"))):
        for label, name in enumerate(FER2013_CLASSES):
            (folder / split / name).mkdir(parents=True)
            for usage in usages:
                seed = 10 * label + len(usage)  # no image is there twice
                images = pictures(np.full(per_class, label), 1, 48, seed)
                for number, image in enumerate(images):
                    path = folder / split / name / f"{usage}_{1000 * label + number}.jpg"
                    save_image(image, path)


def write_fer2013_csv(path: Path, header: str, per_class: int = 4) -> None:
    """`header` is the first line, with emotion, pixels and Usage in any order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for usage in ("Training", "PublicTest", "PrivateTest"):
        labels = balanced(7, per_class)
        for label, image in zip(labels, pictures(labels, 1, 48, len(usage)), strict=True):
            values = {
                "emotion": str(label),
                "Usage": usage,
                "pixels": " ".join(map(str, image.ravel())),
            }
            lines.append(",".join(values[column.strip()] for column in header.split(",")))
    path.write_text("\n".join(lines) + "\n")


def write_utkface(folder: Path, per_class: int = 12) -> None:
    folder.mkdir(parents=True)
    for label, age in enumerate((*AGE_UPPER_BOUNDS, 80)):
        images = pictures(np.full(per_class, label), 3, 48, label)
        for number, image in enumerate(images):
            save_image(image, folder / f"{age}_0_1_2017{number:04d}.jpg.chip.jpg")
