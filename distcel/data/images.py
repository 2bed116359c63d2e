"""Decodes and resizes image files; refuses unreadable and very large ones."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

Images = NDArray[np.uint8]
# Tried for every file, whatever its suffix. Pillow reads more, but every decoder is a risk with
# untrusted files, and some run a program (EPS) or know no file by its first bytes (TGA).
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
SUFFIXES = {  # all that Pillow has for these formats
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    *(".avif", ".avifs"),
}
MAX_PIXELS = 64_000_000


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files below the folder by their suffixes, and all others; both sorted.

    Files whose name begins with a dot are in neither, and there are none in a missing folder.
    """
    files = (Path(path, name) for path, _, names in folders_below(folder) for name in names)
    shown = sorted(path for path in files if not path.name.startswith("."))
    images = [path for path in shown if path.suffix.lower() in SUFFIXES]
    return images, [path for path in shown if path.suffix.lower() not in SUFFIXES]


def by_suffix(paths: Iterable[Path]) -> str:
    """How many of the files have which suffix, the most frequent first, as text."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    return ", ".join(f"{count} {printable(suffix)}" for suffix, count in counts.most_common())


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
        InvalidInputError: a file is unreadable, has more than MAX_PIXELS pixels, or has pixels
            whose range is not known.
    """

    def decode(path: Path) -> Images:
        try:
            return _decoded(path, mode, image_size)
        except Exception as error:  # decoders raise nearly everything on damaged input
            found = f"{str(path)!r} ({error})"
            raise invalid("readable images", found, "replace or remove the file") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        arrays = list(pool.map(decode, paths, chunksize=64))
    shapes = {array.shape for array in arrays}
    require(len(shapes) == 1, "one image size", sorted(shapes)[:3], "set image_size")
    return np.stack(arrays)


def decode_image(content: bytes, mode: str, image_size: int | None) -> Images:
    """Decode the content of one file to an array (channels, H, W), as `decode_images` does.

    Raises:
        InvalidInputError: as there.
    """
    try:
        return _decoded(BytesIO(content), mode, image_size)
    except Exception as error:  # as in decode_images
        # Pillow's own text has the address of the bytes in memory.
        why = "no image" if isinstance(error, UnidentifiedImageError) else error
        found = f"{len(content)} bytes ({why})"
        raise invalid("the bytes of an image file", found, "send a PNG or JPEG file") from None


def _decoded(source: Path | BytesIO, mode: str, image_size: int | None) -> Images:
    with Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it has more than {MAX_PIXELS} pixels")
        require_known_range(image)
        return to_array(image, mode, image_size)


def require_known_range(image: Image.Image) -> None:
    """Raise ValueError for pixels that could be scaled to 0 to 255 only by a guess."""
    # Pillow has 16-bit grey of PNM files in 32 bits, too, and scales it to 0 to 65535.
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        kind = "floats" if image.mode == "F" else "integers wider than 16 bits, or signed"
        raise ValueError(f"its pixels are {kind}: convert it to 8 or 16 bits a pixel")


def to_array(image: Image.Image, mode: str, image_size: int | None) -> Images:
    """The pixels of an image, (channels, H, W), turned as its file says, converted and resized."""
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
    return np.stack([to_array(Image.fromarray(p), mode, image_size) for p in pictures])
