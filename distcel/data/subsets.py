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
from distcel.experiment.errors import invalid, require
from distcel.experiment.learner_sets import Clients, LearnerSpec, learner_specs
from distcel.experiment.types import Experiment, SelectorSplit, SplitName
from distcel.storage.files import content_key

# `crossfit` with 3 folds trains on (3 - 1) + 1 = 3 times the samples, and its copies see two thirds
# of them. With 2 folds they would see half of them; with 5 folds they would see four fifths, at 5
# times the samples.
_N_CROSSFIT_FOLDS = 3
# A client with less than this share of every class on average would have no training to speak of.
_LEAST_SHARE = 0.002
_MAX_DRAWS = 10_000


@dataclass(frozen=True)
class Fold:
    """A part of the train split, (S,), and the keys of the learners trained on the rest of it."""

    held_out_S: NDArray[np.bool_]
    keys: tuple[str, ...]


def held_out_parts(
    labels_S: NDArray[np.int64], selector_split: SelectorSplit, seed: int, share: float = 0.2
) -> list[NDArray[np.bool_]]:
    """The held-out parts of the train split, drawn by class: none, a share, or three thirds.

    Args:
        labels_S: labels of the train split, shape (S,).
        selector_split: what the selection net is trained on.
        seed: seeds the draw.
        share: the fraction that `holdout` holds out, `Experiment.holdout_share`.

    Returns:
        list: masks of shape (S,); the three of `crossfit` are a partition.

    Raises:
        InvalidInputError: a class has too few samples for each fold to have one.
    """
    if selector_split == "train":
        return []
    from sklearn.model_selection import StratifiedKFold  # the import takes a second

    n_folds = _N_CROSSFIT_FOLDS if selector_split == "crossfit" else round(1 / share)
    n_held_out = _N_CROSSFIT_FOLDS if selector_split == "crossfit" else 1
    fewest = int(np.bincount(labels_S).min())
    rule = f"{n_folds} training samples of every class for --selector-split {selector_split}"
    require(fewest >= n_folds, rule, fewest, "add images, or leave the flag out")
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(labels_S, labels_S)
    places = np.arange(len(labels_S))
    return [np.isin(places, rows) for _, rows in folds][:n_held_out]


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


def specs_of(
    experiment: Experiment, class_names: tuple[str, ...], labels_S: NDArray[np.int64], seed: int
) -> tuple[LearnerSpec, ...]:
    """The base learners of an experiment.

    Args:
        experiment: chooses the learner sets.
        class_names: the names of the classes.
        labels_S: labels of the train split, shape (S,).
        seed: seeds the clients' proportions.

    Raises:
        InvalidInputError: fewer than two classes, groups of unknown classes, or clients of which
            some would have no samples.
    """
    clients = experiment.learner_sets
    if not isinstance(clients, Clients):
        return learner_specs(class_names, clients)
    sizes_C = np.bincount(labels_S, minlength=len(class_names))
    shares_NC = client_shares(clients, len(class_names), seed)
    sizes_NC = shares_NC * sizes_C
    mixes_NC = sizes_NC / sizes_NC.sum(1, keepdims=True)
    # Each client has such a class; rounding must not leave one of equal proportions without.
    own_NC = mixes_NC >= (1 - 1e-9) * sizes_C / sizes_C.sum()
    return tuple(
        LearnerSpec(f"client {i}", tuple(np.flatnonzero(own_C).tolist()), i)
        for i, own_C in enumerate(own_NC)
    )


def client_shares(clients: Clients, n_classes: int, seed: int) -> NDArray[np.float64]:
    """The share of each class's samples that each client has, shape (N, C); columns sum to 1.

    It is drawn anew until each client has at least 0.2 % of a class, averaged over the classes.

    Raises:
        InvalidInputError: no draw gives every client samples.
    """
    generator = np.random.default_rng(seed)
    for _ in range(_MAX_DRAWS):
        shares_NC = generator.dirichlet([clients.alpha] * clients.n, n_classes).T
        if shares_NC.mean(1).min() >= _LEAST_SHARE:
            drawn: NDArray[np.float64] = shares_NC
            return drawn
    rule = f"clients of which each has {_LEAST_SHARE:.1%} of the samples"
    raise invalid(rule, repr(clients), "give fewer clients or a larger alpha")


def client_indices(
    labels_S: NDArray[np.int64], clients: Clients, client: int, seed: int
) -> Indices:
    """The training samples of one client; those of all clients are a partition.

    Args:
        labels_S: labels of the split that the clients have, shape (S,), with every class.
        clients: all clients.
        client: its number, from 0.
        seed: seeds the draw; the same for all clients.

    Returns:
        Indices: sorted, without repetition.
    """
    shares_NC = client_shares(clients, int(labels_S.max()) + 1, seed)
    ends_NC = np.cumsum(shares_NC, 0).clip(max=1.0)
    ends_NC[-1] = 1.0
    generator = np.random.default_rng([seed, clients.n])
    parts = []
    for label, ends_N in enumerate(ends_NC.T):
        rows = generator.permutation(np.flatnonzero(labels_S == label))
        cuts = np.concatenate([[0], np.round(ends_N * len(rows)).astype(int)])
        parts.append(rows[cuts[client] : cuts[client + 1]])
    return np.sort(np.concatenate(parts))


def training_indices(
    labels_S: NDArray[np.int64], spec: LearnerSpec, experiment: Experiment, seed: int, own_seed: int
) -> Indices:
    """The training samples of one base learner, its client's or those of a specialist.

    Args:
        labels_S: labels of the split that the base learners are trained on, shape (S,).
        spec: the learner.
        experiment: has the learner sets and the specialty share.
        seed: the run's, which divides the samples among clients.
        own_seed: the learner's, which draws a specialist's samples.
    """
    clients = experiment.learner_sets
    if isinstance(clients, Clients) and spec.client is not None:
        return client_indices(labels_S, clients, spec.client, seed)
    return specialised_indices(labels_S, spec, experiment.specialty_share, own_seed)
