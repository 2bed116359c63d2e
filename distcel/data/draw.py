"""Draws the samples of each split, and leaves out copies of images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distcel.data.formats import Indices, Labels, Pool
from distcel.data.images import Images
from distcel.data.in_memory import InMemory
from distcel.data.readers import read_source
from distcel.experiment.errors import invalid, require
from distcel.experiment.types import Experiment, SplitName

# The test split does not depend on the run's seed, so that no seed trains on another's test split.
TEST_SEED = 0


class SplitOverlapError(RuntimeError):
    """A sample is in two splits."""


def draw_splits(
    experiment: Experiment, data: Path | InMemory, seed: int
) -> tuple[tuple[str, ...], dict[SplitName, Pool]]:
    """The class names and the samples of each split, with duplicates, as no image is read yet.

    Raises:
        InvalidInputError: the data are missing, unreadable or too few to split.
        SplitOverlapError: the splits share a sample id.
    """
    source = data.source if isinstance(data, InMemory) else read_source(experiment.dataset, data)
    train, test = source.train, source.test
    present = [source.class_names[c] for c in np.unique(train.labels)]
    require(len(present) >= 2, "at least two classes", present, "add images of another class")
    if test is None:
        train, test = _divide(train, experiment.test_share, TEST_SEED)
    train, valid = _divide(train, experiment.valid_share, seed)
    pools: dict[SplitName, Pool] = {"train": train, "valid": valid, "test": test}
    if experiment.max_samples is not None:
        pools = {name: _thin(pool, experiment.max_samples) for name, pool in pools.items()}
    require_every_class(source.class_names, pools)
    _require_disjoint(pools)
    return source.class_names, pools


def kept_of_each(images: Mapping[SplitName, Images]) -> dict[SplitName, Indices]:
    """The samples that each split keeps: no image is in two splits, or twice in train or valid.

    Test keeps all samples, so that accuracies on it can be compared with published ones. Valid
    keeps the first copy of each image that is not in test, train the first copy of each image that
    is in neither, whatever the labels of the copies. Images are compared after they were resized,
    as networks see them.

    Args:
        images: the images of the splits `train`, `valid` and `test`, each (S, channels, H, W).

    Returns:
        dict: the indices of the samples to keep, in their order, by split.
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


def drawn_by_class(labels_S: Labels, part: float | int, seed: int) -> tuple[Indices, Indices]:
    """The samples that are kept and those that are drawn, by class; both in their order.

    Args:
        labels_S: the labels, (S,).
        part: the share of the samples that is drawn, or how many.
        seed: seeds the draw.

    Raises:
        InvalidInputError: there are too few samples.
    """
    from sklearn.model_selection import train_test_split  # the import takes a second

    indices = np.arange(len(labels_S))
    try:
        kept, drawn = train_test_split(
            indices, test_size=part, stratify=labels_S, random_state=seed
        )
    except ValueError as error:
        rule = f"enough samples of every class to draw {part} of them"
        fewest = np.sort(np.unique(labels_S, return_counts=True)[1])[:10].tolist()
        found = f"{fewest} of the rarest classes ({error})"
        raise invalid(rule, found, "add samples") from None
    return np.sort(kept), np.sort(drawn)


def _divide(pool: Pool, part: float | int, seed: int) -> tuple[Pool, Pool]:
    kept, drawn = drawn_by_class(pool.labels, part, seed)
    return take(pool, kept), take(pool, drawn)


def _thin(pool: Pool, max_samples: int) -> Pool:
    n_classes = len(np.unique(pool.labels))
    if len(pool.labels) < max_samples + n_classes:  # the rest could not have every class
        return pool
    return _divide(pool, max_samples, TEST_SEED)[1]


def take(pool: Pool, indices: Indices) -> Pool:
    """The samples of these indices; no image is read yet."""
    ids = tuple(pool.sample_ids[i] for i in indices)
    return Pool(ids, pool.labels[indices], lambda chosen, size: pool.read(indices[chosen], size))


def require_every_class(class_names: tuple[str, ...], pools: Mapping[SplitName, Pool]) -> None:
    """Check that train and valid have samples of every class.

    Raises:
        InvalidInputError: a class has no samples there.
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
