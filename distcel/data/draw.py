"""Which sample goes into which split, and which copies of an image are left out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distcel.data.formats import Indices, Pool
from distcel.data.images import Images
from distcel.data.readers import read_source
from distcel.experiment.errors import invalid, require
from distcel.experiment.types import Experiment, SplitName

# The test split is the same whatever the seed, so that no seed ever trains on another's test.
_TEST_SEED = 0


class SplitOverlapError(RuntimeError):
    """A sample is in two splits."""


def draw_splits(
    experiment: Experiment, data_dir: Path, seed: int
) -> tuple[tuple[str, ...], dict[SplitName, Pool]]:
    """The class names and the samples of each split, duplicates included: no image is read yet.

    Raises:
        InvalidInputError: the data are missing, unreadable or too few to split.
        SplitOverlapError: the splits share a sample id.
    """
    source = read_source(experiment.dataset, data_dir)
    train, test = source.train, source.test
    present = [source.class_names[c] for c in np.unique(train.labels)]
    require(len(present) >= 2, "at least two classes", present, "add images of another class")
    if test is None:
        train, test = _divide(train, experiment.test_share, _TEST_SEED)
    train, valid = _divide(train, experiment.valid_share, seed)
    pools: dict[SplitName, Pool] = {"train": train, "valid": valid, "test": test}
    if experiment.max_samples is not None:
        pools = {name: _thin(pool, experiment.max_samples) for name, pool in pools.items()}
    require_every_class(source.class_names, pools)
    _require_disjoint(pools)
    return source.class_names, pools


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


def _divide(pool: Pool, part: float | int, seed: int) -> tuple[Pool, Pool]:
    """Draw a share or a number of samples, by class, into the second part; both keep the order."""
    from sklearn.model_selection import train_test_split  # a second, which no worker needs

    indices = np.arange(len(pool.labels))
    try:
        kept, drawn = train_test_split(
            indices, test_size=part, stratify=pool.labels, random_state=seed
        )
    except ValueError as error:
        rule = f"enough samples of every class to draw {part} of them"
        found = f"{np.bincount(pool.labels).tolist()} a class ({error})"
        raise invalid(rule, found, "add images") from None
    return take(pool, np.sort(kept)), take(pool, np.sort(drawn))


def _thin(pool: Pool, max_samples: int) -> Pool:
    n_classes = len(np.unique(pool.labels))
    if len(pool.labels) < max_samples + n_classes:  # what is left could not hold every class
        return pool
    return _divide(pool, max_samples, _TEST_SEED)[1]


def take(pool: Pool, indices: Indices) -> Pool:
    """The samples of these indices; no image is read yet."""
    ids = tuple(pool.sample_ids[i] for i in indices)
    return Pool(ids, pool.labels[indices], lambda chosen, size: pool.read(indices[chosen], size))


def require_every_class(class_names: tuple[str, ...], pools: Mapping[SplitName, Pool]) -> None:
    """Refuse splits of which train or valid has no sample of a class.

    Raises:
        InvalidInputError: a class has none.
    """
    for c, class_name in enumerate(class_names):
        for name in ("train", "valid"):
            found = f"{name} samples of {class_name!r}"
            rule, remedy = "samples of every class in train and valid", "add images of that class"
            require(bool((pools[name].labels == c).any()), rule, f"no {found}", remedy)


def _require_disjoint(pools: Mapping[SplitName, Pool]) -> None:
    seen: dict[str, str] = {}
    for name, pool in pools.items():
        for sample_id in pool.sample_ids:
            if sample_id in seen:
                raise SplitOverlapError(f"sample {sample_id} is in {seen[sample_id]} and in {name}")
            seen[sample_id] = name
