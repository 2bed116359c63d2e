"""Arrays that others saved with numpy."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

ARRAY_SUFFIXES = (".npy", ".npz")


def load_array(path: Path) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """The numbers of a .npy or .npz file, and the latter's array `names` if it has one.

    Nothing is unpickled.

    Raises:
        InvalidInputError: the file is missing or unreadable, or holds something else.
    """
    arrays = _load(path)
    names = arrays.pop("names", None)
    rule = f"one array, and at most `names` beside it, in {str(path)!r}"
    require(len(arrays) == 1, rule, sorted(arrays)[:10], "save `predictions` and `names` alone")
    (array,) = arrays.values()
    rule = f"an array of numbers in {str(path)!r}"
    require(array.dtype.kind in "biuf", rule, str(array.dtype), "save numbers")
    if names is None:
        return array, None
    rule = f"`names` as an array of text, one dimension, in {str(path)!r}"
    is_text = names.dtype.kind == "U" and names.ndim == 1
    require(is_text, rule, f"{names.dtype} {names.shape}", "save it so")
    return array, tuple(names.tolist())


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"predictions": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        found = f"{str(path)!r} ({printable(str(error))})"
        raise invalid("a readable file of numpy", found, "save it again by numpy") from None
