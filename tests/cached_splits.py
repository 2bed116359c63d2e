"""Splits with the predictions of made-up base learners."""

import numpy as np

from distcel.rules.rule import ConsensusRule
from distcel.train.cache import CachedSplit


def split_of(
    seed: int, n_samples: int = 200, n_learners: int = 6, n_classes: int = 4
) -> CachedSplit:
    """Learners that lean towards the right class, the later ones less."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n_samples)
    strength = np.linspace(2.0, 0.0, n_learners)[None, :, None]
    logits = random.normal(size=(n_samples, n_learners, n_classes))
    logits = logits + strength * np.eye(n_classes)[labels][:, None]
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    images = random.integers(0, 256, (n_samples, 1, 2, 2), dtype=np.uint8)
    return CachedSplit(images, labels, probs.astype(np.float32))


def accuracy(rule: ConsensusRule, train: CachedSplit, test: CachedSplit) -> float:
    return float((rule.fit(train)(test).argmax(-1).numpy() == test.labels_S).mean())


def two_regions() -> CachedSplit:
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
    return CachedSplit(np.broadcast_to(images, (80, 1, 2, 2)).copy(), labels, probs)
