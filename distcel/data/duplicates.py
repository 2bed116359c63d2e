"""Finds images that a data set holds more than once, pixel for pixel: a leak between its splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from distcel.data.formats import Indices
from distcel.data.images import Images
from distcel.experiment.types import SplitName


def kept_of_each(images: Mapping[SplitName, Images]) -> dict[SplitName, Indices]:
    """Which samples each split keeps, so that no image is in two splits or twice in train or valid.

    All of test stay, so that accuracies on it can be compared with others'. Valid keeps the first
    of each image that test does not have, train the first of each that neither has, whatever label
    its copies have. Networks see the images as they are here, resized: what is equal now is equal
    to them.

    Args:
        images: of the splits `train`, `valid` and `test`, each (S, channels, H, W).

    Returns:
        dict: by split, the indices of the samples to keep, in their order.
    """
    seen: set[bytes] = set()
    kept: dict[SplitName, Indices] = {}
    for name in ("test", "valid", "train"):
        indices = []
        for i, image in enumerate(images[name]):
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            if name == "test" or digest not in seen:
                indices.append(i)
            seen.add(digest)
        kept[name] = np.array(indices, np.int64)
    return kept
