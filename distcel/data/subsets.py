"""Subsets of the train split: those that base learners specialise on, and those held out.

A base learner that memorises is more accurate on its training samples than on others, and a
selection net that is trained on the same samples relies on it. There are two alternatives.
`holdout` keeps a part of the train split from the base learners and trains the selection net on
that part alone. `crossfit` predicts each part by copies of the learners that were trained on the
rest, as the super learner does (van der Laan, Polley, Hubbard 2007; Wolpert 1992); the learners
that vote are trained on the whole split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from distcel.data.formats import Indices
from distcel.data.splits import Split, Splits
from distcel.experiment.errors import require
from distcel.experiment.types import LearnerSpec, SelectorSplit, SplitName
from distcel.storage.files import content_key

# `holdout` holds out a fifth. `crossfit` with 3 folds trains on (3 - 1) + 1 = 3 times the samples,
# and its copies see two thirds of them. With 2 folds they would see half of them; with 5 folds they
# would see four fifths, at 5 times the samples.
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
    """The held-out parts of the train split, drawn by class: none, a fifth, or three thirds.

    Args:
        labels_S: labels of the train split, shape (S,).
        selector_split: what the selection net is trained on.
        seed: seeds the draw.

    Returns:
        list: masks of shape (S,); the three of `crossfit` are a partition.

    Raises:
        InvalidInputError: a class has too few samples for each fold to have one.
    """
    if selector_split == "train":
        return []
    from sklearn.model_selection import StratifiedKFold  # the import takes a second

    n_folds = _N_FOLDS[selector_split]
    fewest = int(np.bincount(labels_S).min())
    rule = f"{n_folds} training samples of every class for --selector-split {selector_split}"
    require(fewest >= n_folds, rule, fewest, "add images, or leave the flag out")
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels_S, labels_S)
    places = np.arange(len(labels_S))
    return [np.isin(places, rows) for _, rows in folds][: _N_HELD_OUT[selector_split]]


def digest_without(splits: Splits, held_out_S: NDArray[np.bool_]) -> str:
    """The digest of the splits with a part of the train split held out."""
    return content_key([splits.digest, "without", np.flatnonzero(held_out_S).tolist()])


def hold_out(splits: Splits, held_out_S: NDArray[np.bool_]) -> Splits:
    """The splits with the part of train that the mask (S,) selects as a split `holdout`."""
    train = splits["train"]
    parts: dict[SplitName, Split] = {
        "train": train.where(~held_out_S),
        "holdout": train.where(held_out_S),
    }
    digest = digest_without(splits, held_out_S)
    return replace(splits, by_name={**splits.by_name, **parts}, digest=digest)


def specialised_indices(
    labels_S: NDArray[np.int64], spec: LearnerSpec, share: float, seed: int
) -> Indices:
    """The training samples of one base learner, of which the fraction `share` is of its classes.

    They are all samples of its classes and a random draw of the others. If there are too few
    others, they are all others and a random draw of its classes. A learner of all classes has all
    samples.

    Args:
        labels_S: labels of the train split, shape (S,).
        spec: the learner.
        share: the specialty share, in (0, 1).
        seed: seeds the draw.

    Returns:
        Indices: sorted, without repetition.
    """
    own = np.flatnonzero(np.isin(labels_S, spec.classes))
    others = np.flatnonzero(~np.isin(labels_S, spec.classes))
    if len(others) == 0:
        return own
    total = min(len(own) / share, len(others) / (1 - share))
    generator = np.random.default_rng(seed)
    own = generator.choice(own, round(total * share), replace=False)
    others = generator.choice(others, round(total * (1 - share)), replace=False)
    return np.sort(np.concatenate([own, others]))
