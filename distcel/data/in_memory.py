"""Images that the caller has: arrays, or a data set that is read by index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distcel.data.formats import Indices, Pool, Source, numbered
from distcel.data.images import Images, require_known_range, resize_images, to_array
from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

_GREY = ("1", "L", "LA", "I;16")  # Pillow's modes without colour
_TO_BYTES = "scale them to 0 to 255 and convert them to uint8; leave transforms to floats out"


@dataclass(frozen=True)
class InMemory:
    """Images that the caller has, with the digest of their pixels, labels and class names."""

    source: Source
    digest: str


@dataclass(frozen=True)
class _Samples:
    """S images, uint8 (channels, H, W) each, labels (S,), and the names of labels 0, 1, ..."""

    images: Sequence[Images]
    labels: NDArray[Any]
    names: tuple[str, ...] | None


def in_memory(X: Any, y: Any, X_test: Any, y_test: Any) -> InMemory:
    """The samples of a launch from arrays or data sets.

    Args:
        X: uint8 images (S, channels, H, W), with y; or a data set with `__len__` and `__getitem__`
            of (image, label) or of a mapping with `image` (or `img`) and `label`. Its images are
            Pillow's, or uint8 arrays (channels, H, W) or (H, W), and may differ in size if they are
            resized. It may name its classes, as torchvision's `classes` or Hugging Face's
            `features` do.
        y: labels (S,), whole numbers or text; None with a data set.
        X_test: the test split in the same form; None if it is to be drawn.
        y_test: its labels; None with a data set.

    Raises:
        InvalidInputError: another dtype or shape, X without y, or test labels that train lacks.
    """
    train = _samples("X", X, y)
    require(X_test is not None or y_test is None, "X_test beside y_test", X_test, "give both")
    test = None if X_test is None else _samples("X_test", X_test, y_test)
    values = np.unique(train.labels)
    if test is not None:
        unknown = sorted(set(test.labels.tolist()) - set(values.tolist()), key=str)
        rule = "test labels that train has"
        require(not unknown, rule, unknown[:5], "leave these samples out")
    names = train.names
    if names is not None:
        known = values.dtype.kind in "iu" and values[0] >= 0 and values[-1] < len(names)
        remedy = "mend the labels, or the names"
        require(known, f"labels from 0 to {len(names) - 1}", values.tolist()[:20], remedy)
    class_names = tuple(printable(str(names[v] if names else v)) for v in values.tolist())
    differ = len(set(class_names)) == len(class_names)
    require(differ, "names of classes that differ", class_names, "rename one")
    digest = hashlib.blake2b(json.dumps(class_names).encode(), digest_size=16)
    pools = [
        _pool(prefix, samples, values, digest)
        for prefix, samples in (("sample" if test is None else "train", train), ("test", test))
        if samples is not None
    ]
    source = Source(class_names, pools[0], pools[1] if test is not None else None)
    return InMemory(source, digest.hexdigest())


def _pool(prefix: str, samples: _Samples, values: NDArray[Any], digest: Any) -> Pool:
    """The samples as a pool; their content goes into the digest."""
    labels = np.searchsorted(values, samples.labels).astype(np.int64)
    digest.update(json.dumps([prefix, len(labels)]).encode())
    digest.update(labels.data)
    for image in samples.images:
        digest.update(str(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
    ids = numbered(prefix, len(labels))
    return Pool(ids, labels, partial(_read, samples.images))


def _read(images: Sequence[Images], chosen: Indices, image_size: int | None) -> Images:
    found = [images[i] for i in chosen]
    if image_size is not None:
        for image in found:
            rule = "images of 1 or 3 channels where image_size is given"
            require(len(image) in (1, 3), rule, len(image), "resize them before")
        found = [resize_images(image[None], image_size)[0] for image in found]
    shapes = {image.shape for image in found}
    require(len(shapes) == 1, "images of one shape", sorted(shapes)[:3], "set image_size")
    return np.stack(found)


def _samples(name: str, X: Any, y: Any) -> _Samples:
    """The images and labels of an array or a data set; `name` is X or X_test."""
    if y is not None:
        images = _array_images(name, X)
        return _Samples(images, _labels(name, y, len(images)), None)
    rule = f"y beside an array as {name}, or a data set with __len__ and __getitem__"
    fits = hasattr(X, "__len__") and hasattr(X, "__getitem__") and not hasattr(X, "dtype")
    require(fits, rule, type(X).__name__, "give y, or such a data set")
    require(len(X) > 0, f"samples in {name}", 0, "give some")
    items = [_item(name, X[i], i) for i in range(len(X))]
    pixels = _pixels(name, [image for image, _ in items])
    return _Samples(pixels, _labels(name, [label for _, label in items], len(items)), _names(X))


def _array_images(name: str, X: Any) -> Sequence[Images]:
    array = _as_array(name, X)
    if array.dtype != np.uint8 or array.ndim != 4 or 0 in array.shape:
        rule = f"uint8 images (S, channels, height, width) as {name}"
        raise invalid(rule, f"{array.dtype} {array.shape}", _TO_BYTES)
    _require_channels_first(name, array.shape[1:])
    images: Sequence[Images] = array  # type: ignore[assignment]  # an array of rows is none to mypy
    return images


def _labels(name: str, given: Any, n_images: int) -> NDArray[Any]:
    labels = _as_array(f"the labels of {name}", given)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels):
        labels = labels.astype(np.str_)
    if labels.shape != (n_images,) or labels.dtype.kind not in "iuU":
        rule = f"a label, a whole number or text, for each image of {name}"
        found = f"{labels.dtype} {labels.shape} for {n_images} images"
        raise invalid(rule, found, "give one a sample")
    return labels


def _as_array(name: str, given: Any) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
        reason = str(error).split("\n")[0]
        raise invalid(f"an array as {name}", reason, "convert it by numpy") from None


def _item(name: str, item: Any, i: int) -> tuple[Any, Any]:
    rule = f"(image, label) or a mapping with image and label as each item of {name}"
    if isinstance(item, Mapping):
        image, label = item.get("image", item.get("img")), item.get("label")
        found: object = sorted(map(str, item))
        fits = image is not None and label is not None
    else:
        fits = isinstance(item, tuple | list) and len(item) == 2
        image, label = item if fits else (None, None)
        found = type(item).__name__
    require(fits, f"{rule}, as of item {i}", found, "rename the columns, or wrap it")
    return image, label


def _names(dataset: Any) -> tuple[str, ...] | None:
    names = getattr(dataset, "classes", None)
    features = getattr(dataset, "features", None)
    if names is None and isinstance(features, Mapping):
        names = getattr(features.get("label"), "names", None)
    return tuple(map(str, names)) if names else None


def _pixels(name: str, images: Sequence[Any]) -> list[Images]:
    """The images of a data set as arrays (channels, H, W); all grey if the first one is."""
    first = images[0]
    mode = "L" if isinstance(first, Image.Image) and first.mode in _GREY else "RGB"
    return [_one(f"image {i} of {name}", image, mode) for i, image in enumerate(images)]


def _one(name: str, image: Any, mode: str) -> Images:
    if isinstance(image, Image.Image):
        try:
            require_known_range(image)
            return to_array(image, mode, None)
        except (ValueError, OSError) as error:
            raise invalid("readable images", f"{name} ({error})", "replace it") from None
    array = _as_array(name, image)
    array = array[None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3 or 0 in array.shape:
        rule = f"uint8 pixels (channels, height, width) or an image of Pillow as {name}"
        raise invalid(rule, f"{array.dtype} {array.shape}", _TO_BYTES)
    _require_channels_first(name, array.shape)
    return array


def _require_channels_first(name: str, shape: tuple[int, ...]) -> None:
    last = shape[0] > 4 and shape[2] in (1, 3, 4)
    rule, remedy = f"channels before height and width in {name}", "transpose it"
    require(not last, rule, shape, remedy)
