"""Seeded splits that share no sample and no image, kept decoded as Arrow files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.formats import Indices, Pool
from distcel.data.images import Images
from distcel.data.readers import read_source, source_stamp
from distcel.data.tables import read_samples, write_samples
from distcel.experiment.errors import invalid, require
from distcel.experiment.types import SPLIT_NAMES, Experiment, SplitName
from distcel.storage.files import DamagedFileError, content_key, put_aside
from distcel.storage.provenance import source_digest

# Part of the splits' key. Raise it with every change of what is read, decoded, drawn or left out:
# anything in this room that gives other ids, labels or pixels from the same files and seed.
CACHE_VERSION = 1
# The test split is the same whatever the seed, so that no seed ever trains on another's test.
_TEST_SEED = 0


Probabilities = NDArray[np.float32]


class SplitOverlapError(RuntimeError):
    """A sample is in two splits."""


@dataclass(frozen=True)
class Split:
    """The samples of one split; the arrays are read-only.

    Attributes:
        sample_ids: one a sample.
        labels_S: shape (S,).
        images_SCHW: shape (S, channels, height, width).
        probs_SNC: the base learners' softmax outputs, shape (S, N, C). N is 0 until the prediction
            cache read them.
    """

    sample_ids: pa.StringArray
    labels_S: NDArray[np.int64]
    images_SCHW: Images
    probs_SNC: Probabilities

    @property
    def learners_right(self) -> NDArray[np.bool_]:
        """Whether each learner's most probable class is the sample's own, (S, N)."""
        right_SN: NDArray[np.bool_] = self.probs_SNC.argmax(-1) == self.labels_S[:, None]
        return right_SN

    def where(self, chosen_S: NDArray[np.bool_]) -> Split:
        """The samples that are chosen by a mask of shape (S,)."""
        return Split(
            self.sample_ids.filter(chosen_S),
            self.labels_S[chosen_S],
            self.images_SCHW[chosen_S],
            self.probs_SNC[chosen_S],
        )


@dataclass(frozen=True)
class Splits:
    """The splits of a data set.

    Attributes:
        class_names: in the order of the labels.
        by_name: train, valid and test, and holdout once `subsets.hold_out` drew it.
        digest: of the samples that were drawn, and of which of them are held out.
        n_duplicates: samples that were left out of train and valid, because their image is in
            another split or an earlier one of the same split.
    """

    class_names: tuple[str, ...]
    by_name: Mapping[SplitName, Split]
    digest: str
    n_duplicates: int

    def __getitem__(self, name: SplitName) -> Split:
        return self.by_name[name]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, channels, height, width = self["train"].images_SCHW.shape
        return channels, height, width

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the train split, in [0, 1]."""
        images = self["train"].images_SCHW
        levels = np.arange(256) / 255
        means, stds = [], []
        for channel in range(images.shape[1]):
            counts = np.bincount(images[:, channel].ravel(), minlength=256)
            means.append(float(np.average(levels, weights=counts)))
            variance = float(np.average((levels - means[-1]) ** 2, weights=counts))
            stds.append(max(variance**0.5, 1 / 255))
        return tuple(means), tuple(stds)


def load_splits(experiment: Experiment, data_dir: Path, folder: Path, seed: int) -> Splits:
    """The train, valid and test splits; decoded once and then memory-mapped from `folder`.

    A test split that the data set brings stays as it is; otherwise it is drawn by class, the same
    for every seed. The valid split is drawn by class out of the rest, by the seed. No image is in
    two splits: `kept_of_each` decides which one keeps it.

    Raises:
        InvalidInputError: the data are missing, unreadable or too few to split.
        SplitOverlapError: the splits share a sample id.
    """
    request = {
        "cache_version": CACHE_VERSION,
        "versions": [np.__version__, version("pillow"), version("scikit-learn")],
        "dataset": experiment.dataset,
        "data_dir": str(data_dir.resolve()),
        "source": source_stamp(data_dir) if experiment.dataset != "digits" else [],
        "image_size": experiment.image_size,
        "valid_share": experiment.valid_share,
        "test_share": experiment.test_share,
        "max_samples": experiment.max_samples,
        "seed": seed,
    }
    key = content_key(request)
    paths = {name: folder / f"{name}-{key}.arrow" for name in SPLIT_NAMES}
    try:
        return _open_splits(paths)
    except DamagedFileError as error:
        put_aside(error)
    except FileNotFoundError:
        pass
    _write_splits(experiment, data_dir, paths, seed)
    return _open_splits(paths)


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
    _require_every_class(source.class_names, pools)
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


def _write_splits(
    experiment: Experiment, data_dir: Path, paths: Mapping[SplitName, Path], seed: int
) -> None:
    class_names, pools = draw_splits(experiment, data_dir, seed)
    images = {
        name: pool.read(np.arange(len(pool.labels)), experiment.image_size)
        for name, pool in pools.items()
    }
    shapes = {name: pixels.shape[1:] for name, pixels in images.items()}
    rule = "images of one shape in all splits (channels, height, width)"
    require(len(set(shapes.values())) == 1, rule, shapes, "resize them alike")
    n_duplicates = 0
    for name, kept in kept_of_each(images).items():
        if left_out := len(images[name]) - len(kept):
            n_duplicates += left_out
            pools[name], images[name] = _take(pools[name], kept), images[name][kept]
    _require_every_class(class_names, pools)
    metadata = {
        "class_names": json.dumps(class_names),
        "splits_digest": _digest(pools, images),
        "n_duplicates": str(n_duplicates),
        "source_digest": source_digest(),
    }
    for name, pool in pools.items():
        ids = pa.array(pool.sample_ids, pa.string())
        write_samples(paths[name], "image", ids, pool.labels, images[name], metadata)


def _open_splits(paths: Mapping[SplitName, Path]) -> Splits:
    tables = {name: read_samples(path, "image") for name, path in paths.items()}
    facts = tables["train"].metadata
    class_names = tuple(json.loads(facts["class_names"]))
    by_name = {}
    for name, table in tables.items():
        no_probs = np.empty((len(table.labels), 0, len(class_names)), np.float32)
        by_name[name] = Split(table.sample_ids, table.labels, table.values, no_probs)
    return Splits(class_names, by_name, facts["splits_digest"], int(facts["n_duplicates"]))


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
    return _take(pool, np.sort(kept)), _take(pool, np.sort(drawn))


def _thin(pool: Pool, max_samples: int) -> Pool:
    n_classes = len(np.unique(pool.labels))
    if len(pool.labels) < max_samples + n_classes:  # what is left could not hold every class
        return pool
    return _divide(pool, max_samples, _TEST_SEED)[1]


def _take(pool: Pool, indices: Indices) -> Pool:
    ids = tuple(pool.sample_ids[i] for i in indices)
    return Pool(ids, pool.labels[indices], lambda chosen, size: pool.read(indices[chosen], size))


def _require_every_class(class_names: tuple[str, ...], pools: Mapping[SplitName, Pool]) -> None:
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


def _digest(pools: Mapping[SplitName, Pool], images: Mapping[SplitName, Images]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name, pool in pools.items():
        digest.update(json.dumps([name, pool.sample_ids, images[name].shape]).encode())
        digest.update(np.ascontiguousarray(pool.labels).data)
        digest.update(np.ascontiguousarray(images[name]).data)
    return digest.hexdigest()
