"""Decodes and resizes image files; refuses unreadable and very large ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from distcel.experiment.errors import invalid, require

Images = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")  # tried for every file, whatever its suffix
MAX_PIXELS = 64_000_000


def image_files(folder: Path) -> list[Path]:
    """Every image file below the folder, sorted; none if the folder is missing."""
    files = (Path(path, name) for path, _, names in folders_below(folder) for name in names)
    found = (p for p in files if p.suffix.lower() in SUFFIXES)
    return sorted(p for p in found if not p.name.startswith("."))


def folders_below(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """The folder and all below it, with the names of their subfolders and of their files.

    Each folder comes once, even if several links lead to it; none if the folder is missing.

    Raises:
        InvalidInputError: the permissions of a folder do not allow to read it.
    """
    seen = {os.path.realpath(folder)}
    for path, children, names in os.walk(folder, onerror=_refuse, followlinks=True):
        yield path, children, names
        children[:] = [c for c in children if os.path.realpath(f"{path}/{c}") not in seen]
        seen |= {os.path.realpath(f"{path}/{child}") for child in children}


def _refuse(error: OSError) -> None:
    on_any_disk = Path(error.filename).name == "lost+found"  # and root's alone
    if isinstance(error, PermissionError) and not on_any_disk:
        found = f"{error.filename!r} ({error.strerror})"
        raise invalid("readable folders", found, "change its permissions, or remove it")


def decode_images(paths: Sequence[Path], mode: str, image_size: int | None) -> Images:
    """Decode the files to one array (S, channels, H, W).

    Args:
        paths: image files, at least one.
        mode: `RGB` or `L` (grey).
        image_size: side that images are resized to; None keeps their sizes, which must be equal.

    Raises:
        InvalidInputError: a file is unreadable or has more than MAX_PIXELS pixels.
    """

    def decode(path: Path) -> Images:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"it has more than {MAX_PIXELS} pixels")
                return _to_array(image, mode, image_size)
        except Exception as error:  # decoders raise nearly everything on damaged input
            found = f"{str(path)!r} ({error})"
            raise invalid("readable images", found, "replace or remove the file") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        arrays = list(pool.map(decode, paths, chunksize=64))
    shapes = {array.shape for array in arrays}
    require(len(shapes) == 1, "one image size", sorted(shapes)[:3], "set image_size")
    return np.stack(arrays)


def _to_array(image: Image.Image, mode: str, image_size: int | None) -> Images:
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).astype(np.uint8))
    converted = ImageOps.exif_transpose(image).convert(mode)
    if image_size is not None and converted.size != (image_size, image_size):
        converted = converted.resize((image_size, image_size), Image.Resampling.BICUBIC)
    array = np.asarray(converted)
    return array[None] if mode == "L" else array.transpose(2, 0, 1)


def resize_images(images: Images, image_size: int | None) -> Images:
    """Resize an array (S, channels, H, W) as `decode_images` resizes files."""
    if image_size is None or images.shape[2:] == (image_size, image_size):
        return images
    mode = "L" if images.shape[1] == 1 else "RGB"
    pictures: Iterable[Images] = images[:, 0] if mode == "L" else images.transpose(0, 2, 3, 1)
    return np.stack([_to_array(Image.fromarray(p), mode, image_size) for p in pictures])
