"""Predictions of training samples by learners that have not seen them.

A base learner that memorises is better on its training samples than it is, and a selection net that
is trained there believes it. Hence two other ways: `holdout` keeps a part of the train split from
the base learners and trains the selection net on that alone. `crossfit` predicts each part of the
train split by copies of the learners that were trained on the rest of it, as the super learner does
(van der Laan, Polley, Hubbard 2007; Wolpert 1992), and leaves the learners that vote all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distcel.data.splits import Split, Splits
from distcel.experiment.errors import require
from distcel.experiment.types import LearnerSpec, SelectorSplit, SplitName
from distcel.storage.files import content_key
from distcel.train.cache import CachedSplit, PredictionCache

# A fifth is held out. Three folds cost (3 - 1) + 1 = 3 times the training samples, whose copies see
# two thirds of them: 2 would halve what a copy sees, 5 would cost 5 times for another 13 %.
_N_FOLDS = {"holdout": 5, "crossfit": 3}
_N_HELD_OUT = {"holdout": 1, "crossfit": 3}


@dataclass(frozen=True)
class Fold:
    """A part of the train split, (S,), and the keys of the learners trained on the rest of it."""

    held_out_S: NDArray[np.bool_]
    keys: tuple[str, ...]


def held_out_parts(
    labels_S: NDArray[np.int64], selector_split: SelectorSplit, seed: int
) -> list[NDArray[np.bool_]]:
    """What is held out of the train split, drawn by class: nothing, a fifth, or thirds in turn.

    Args:
        labels_S: labels of the train split, shape (S,).
        selector_split: what the selection net is trained on.
        seed: of the draw.

    Returns:
        list: masks of shape (S,); the three of `crossfit` are a partition.

    Raises:
        InvalidInputError: a class has too few samples for each fold to have one.
    """
    if selector_split == "train":
        return []
    from sklearn.model_selection import StratifiedKFold  # a second, which no worker needs

    n_folds = _N_FOLDS[selector_split]
    fewest = int(np.bincount(labels_S).min())
    rule = f"{n_folds} training samples of every class for --selector-split {selector_split}"
    require(fewest >= n_folds, rule, fewest, "add images, or leave the flag out")
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels_S, labels_S)
    places = np.arange(len(labels_S))
    return [np.isin(places, rows) for _, rows in folds][: _N_HELD_OUT[selector_split]]


def digest_without(splits: Splits, held_out_S: NDArray[np.bool_]) -> str:
    """The digest of the splits once a part of the train split is held out."""
    return content_key([splits.digest, "without", np.flatnonzero(held_out_S).tolist()])


def hold_out(splits: Splits, held_out_S: NDArray[np.bool_]) -> Splits:
    """The splits with a part of the train split, a mask (S,), as a split `holdout` of its own."""
    train = splits["train"]
    parts: dict[SplitName, Split] = {
        "train": _where(train, ~held_out_S),
        "holdout": _where(train, held_out_S),
    }
    digest = digest_without(splits, held_out_S)
    return replace(splits, by_name={**splits.by_name, **parts}, digest=digest)


def cross_fitted(
    cache: PredictionCache, specs: Sequence[LearnerSpec], folds: Sequence[Fold], train: Split
) -> CachedSplit:
    """The train split, each sample predicted by the copies that were trained without it.

    Raises:
        DamagedFileError: a file's bytes have changed, or it is about other samples.
    """
    probs_SNC = np.empty(0, np.float32)
    for fold in folds:
        held_out = _where(train, fold.held_out_S)
        part = cache.load(specs, fold.keys, held_out, "holdout").probs_SNC
        if not probs_SNC.size:
            probs_SNC = np.empty((len(train.labels), *part.shape[1:]), np.float32)
        probs_SNC[fold.held_out_S] = part
    return CachedSplit(train.images, train.labels, probs_SNC)


def _where(split: Split, chosen_S: NDArray[np.bool_]) -> Split:
    ids = split.sample_ids.filter(chosen_S)
    return Split(ids, split.labels[chosen_S], split.images[chosen_S])
