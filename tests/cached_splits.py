"""Splits with the predictions of made-up base learners."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.splits import Split, Splits
from distcel.rules.neighbours import pixels
from distcel.rules.rule import ConsensusRule, RuleOptions


def made_split(
    labels: NDArray[np.int64], probs: NDArray[Any], images: NDArray[np.uint8] | None = None
) -> Split:
    """Of these labels (S,) and predictions (S, N, C); by default all images are black."""
    if images is None:
        images = np.zeros((len(labels), 1, 2, 2), np.uint8)
    ids = pa.array([str(i) for i in range(len(labels))])
    return Split(ids, labels, images, probs.astype(np.float32))


def made_splits(train: Split, valid: Split) -> Splits:
    """What trials are trained on."""
    class_names = tuple(str(c) for c in range(train.probs_SNC.shape[2]))
    return Splits(class_names, {"train": train, "valid": valid}, digest="made", n_duplicates=0)


def split_of(seed: int, n_samples: int = 200, n_learners: int = 6, n_classes: int = 4) -> Split:
    """Learners that lean towards the right class, the later ones less."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n_samples)
    strength = np.linspace(2.0, 0.0, n_learners)[None, :, None]
    logits = random.normal(size=(n_samples, n_learners, n_classes))
    logits = logits + strength * np.eye(n_classes)[labels][:, None]
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    images = random.integers(0, 256, (n_samples, 1, 2, 2), dtype=np.uint8)
    return made_split(labels, probs, images)


def options_of(valid: Split, k: int = 1) -> RuleOptions:
    """Options of rules without a selection net: learners of equal classes, pixels as embedding."""
    shape = valid.probs_SNC.shape[1:]
    return RuleOptions(k, 0, valid, np.full(shape, 1 / shape[1]), pixels)


def accuracy(rule: ConsensusRule, train: Split, test: Split) -> float:
    return float((rule.fit(train)(test).argmax(-1).numpy() == test.labels_S).mean())


def two_regions() -> Split:
    """Dark images are learner 0's, bright ones learner 1's; the other one is wrong there."""
    labels = np.arange(80) % 2
    bright = np.arange(80) >= 40
    images = np.where(bright, 250, 5).astype(np.uint8)[:, None, None, None]
    images = images + (np.arange(80) % 5).astype(np.uint8)[:, None, None, None]
    probs = np.empty((80, 3, 2), np.float32)
    for learner, right in enumerate((~bright, bright, np.zeros(80, bool))):
        says = np.where(right, labels, 1 - labels)
        probs[np.arange(80), learner, says] = 0.9
        probs[np.arange(80), learner, 1 - says] = 0.1
    return made_split(labels, probs, np.broadcast_to(images, (80, 1, 2, 2)).copy())
