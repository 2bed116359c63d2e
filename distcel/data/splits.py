"""Seeded splits that share no sample and no image, kept decoded as Arrow files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.draw import draw_splits, kept_of_each, require_every_class, take
from distcel.data.formats import Pool
from distcel.data.images import Images
from distcel.data.in_memory import InMemory
from distcel.data.readers import source_stamp
from distcel.data.sample_table import read_samples, write_samples
from distcel.experiment.errors import require
from distcel.experiment.types import SPLIT_NAMES, Experiment, SplitName
from distcel.storage.files import DamagedFileError, content_key, put_aside
from distcel.storage.provenance import source_digest

# Part of the splits' key. Raise it with every change in this room of reading, decoding, drawing or
# duplicates that gives other ids, labels or pixels from the same files and seed.
CACHE_VERSION = 2

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """The samples of one split; the arrays are read-only.

    Attributes:
        sample_ids: the S ids.
        labels_S: the labels, shape (S,).
        images_SCHW: what the selection net sees: images, uint8 (S, channels, height, width), or
            numbers, float32 (S, F).
        probs_SNC: the base learners' softmax outputs, shape (S, N, C). N is 0 until they are read
            from the prediction cache. A learner that did not answer a sample has zeros there.
    """

    sample_ids: pa.StringArray
    labels_S: NDArray[np.int64]
    images_SCHW: Images | NDArray[np.float32]
    probs_SNC: Probabilities

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether each learner answered each sample, (S, N)."""
        answered_SN: NDArray[np.bool_] = np.any(self.probs_SNC, axis=-1)
        return answered_SN

    @property
    def learners_correct(self) -> NDArray[np.bool_]:
        """Whether each learner's most probable class is the sample's own, (S, N).

        A learner that did not answer is not correct.
        """
        correct_SN: NDArray[np.bool_] = self.probs_SNC.argmax(-1) == self.labels_S[:, None]
        return correct_SN & self.answered

    def where(self, chosen_S: NDArray[np.bool_]) -> Split:
        """The samples that a mask of shape (S,) selects."""
        return Split(
            self.sample_ids.filter(chosen_S),
            self.labels_S[chosen_S],
            self.images_SCHW[chosen_S],
            self.probs_SNC[chosen_S],
        )


def joined(first: Split, second: Split) -> Split:
    """The samples of the first split, and then those of the second."""
    return Split(
        pa.concat_arrays([first.sample_ids, second.sample_ids]),
        np.concatenate([first.labels_S, second.labels_S]),
        np.concatenate([first.images_SCHW, second.images_SCHW]),
        np.concatenate([first.probs_SNC, second.probs_SNC]),
    )


@dataclass(frozen=True)
class Splits:
    """The splits of a data set.

    Attributes:
        class_names: the names of the classes, in the order of the labels.
        by_name: train, valid and test, and holdout after `subsets.hold_out`.
        digest: the digest of the drawn samples, and of which of them are held out.
        n_duplicates: number of samples that were left out of train and valid, because their image
            is in another split or occurs earlier in the same split.
    """

    class_names: tuple[str, ...]
    by_name: Mapping[SplitName, Split]
    digest: str
    n_duplicates: int

    def __getitem__(self, name: SplitName) -> Split:
        return self.by_name[name]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width; of numbers (F,)."""
        shape: tuple[int, ...] = self["train"].images_SCHW.shape[1:]
        return shape

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the train split, in [0, 1].

        Of numbers those of each number; a constant one has the deviation 1.
        """
        images = self["train"].images_SCHW
        if images.ndim == 2:
            mean_F, std_F = images.mean(0, np.float64), images.std(0, np.float64)
            std_F[std_F < 1e-6] = 1.0
            return tuple(mean_F.tolist()), tuple(std_F.tolist())
        levels = np.arange(256) / 255
        means, stds = [], []
        for channel in range(images.shape[1]):
            counts = np.bincount(images[:, channel].ravel(), minlength=256)
            means.append(float(np.average(levels, weights=counts)))
            variance = float(np.average((levels - means[-1]) ** 2, weights=counts))
            stds.append(max(variance**0.5, 1 / 255))
        return tuple(means), tuple(stds)


def load_splits(experiment: Experiment, data: Path | InMemory, folder: Path, seed: int) -> Splits:
    """The train, valid and test splits; decoded once and then memory-mapped from `folder`.

    The test split of the data set is used as it is; if there is none, it is drawn by class, the
    same for every seed. The valid split is drawn by class from the rest with the seed. No image is
    in two splits: `kept_of_each` decides which of them keeps it.

    Raises:
        InvalidInputError: the data are missing, unreadable or too few to split.
        SplitOverlapError: the splits share a sample id.
    """
    request = {
        "cache_version": CACHE_VERSION,
        "versions": [np.__version__, version("pillow"), version("scikit-learn")],
        "dataset": experiment.dataset,
        **_data_facts(experiment.dataset, data),
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
    _write_splits(experiment, data, paths, seed)
    return _open_splits(paths)


def _data_facts(dataset: str, data: Path | InMemory) -> dict[str, Any]:
    """What tells the data from others: their content in memory, or the stamps of their files."""
    if isinstance(data, InMemory):
        return {"data_dir": None, "source": data.digest}
    stamps = source_stamp(data) if dataset != "digits" else []
    return {"data_dir": str(data.resolve()), "source": stamps}


def _write_splits(
    experiment: Experiment, data: Path | InMemory, paths: Mapping[SplitName, Path], seed: int
) -> None:
    class_names, pools = draw_splits(experiment, data, seed)
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
            pools[name], images[name] = take(pools[name], kept), images[name][kept]
    require_every_class(class_names, pools)
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


def _digest(pools: Mapping[SplitName, Pool], images: Mapping[SplitName, Images]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name, pool in pools.items():
        digest.update(json.dumps([name, pool.sample_ids, images[name].shape]).encode())
        digest.update(np.ascontiguousarray(pool.labels).data)
        digest.update(np.ascontiguousarray(images[name]).data)
    return digest.hexdigest()
