"""Single flipped bits and truncations of everything that a later launch reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distcel.data.sample_table import read_samples
from distcel.data.splits import Splits, load_splits
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES
from distcel.storage.files import DamagedFileError, read_record, write_record
from distcel.train.cache import PredictionCache, TrainedLearner
from distcel.train.checkpoint import Weights

SPEC = LearnerSpec("3+5", (3, 5))
EXPERIMENT = load_experiment("digits", "smoke")
Tally = Callable[[str, bool], None]
Times = Callable[[int, int], int]


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(EXPERIMENT, folder, folder, seed=0)


@pytest.fixture
def cache(splits: Splits, tmp_path: Path) -> PredictionCache:
    random = np.random.default_rng(0)
    probs = {
        name: random.dirichlet(np.ones(10), len(splits[name].labels_S)).astype(np.float32)
        for name in SPLIT_NAMES
    }
    cache = PredictionCache(tmp_path)
    weights: Weights = {"fc.weight": random.random((10, 84), np.float32)}
    cache.write(SPEC, "key", splits, TrainedLearner(probs, weights, 1.0))
    return cache


def damaged_copies(content: bytes, flips: int, cuts: int) -> list[tuple[str, bytes]]:
    """Random single-bit flips, and truncations at evenly spaced lengths."""
    copies = []
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), flips):
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        copies.append(("bit flip", bytes(copy)))
    lengths = np.linspace(0, len(content) - 1, min(cuts, len(content))).astype(int)
    return copies + [("truncation", content[:length]) for length in lengths]


@pytest.mark.parametrize("kind", ["predictions", "weights", "digest"])
def test_a_damaged_learner_is_never_used(
    kind: str, cache: PredictionCache, times: Times, tally: Tally
) -> None:
    path = cache.path(SPEC, "key", "valid")
    if kind == "weights":
        path = cache.weights_path(SPEC, "key")
    elif kind == "digest":
        path = path.with_name(path.name + ".blake2b")
    judged = path if kind != "digest" else cache.path(SPEC, "key", "valid")
    intact, content = judged.read_bytes(), path.read_bytes()
    for fault, copy in damaged_copies(content, times(100, 10_000), times(100, 10**9)):
        path.write_bytes(copy)
        aside = judged.with_name(judged.name + ".damaged")
        if kind == "digest" and copy.split() == content.split():  # only its white space changed
            continue
        tally(f"{fault} of {kind}", not cache.holds(SPEC, "key") and aside.exists())
        aside.unlink(missing_ok=True)
        judged.write_bytes(intact)
        path.write_bytes(content)
    assert cache.holds(SPEC, "key")


def test_a_damaged_state_of_a_training_is_never_used(
    cache: PredictionCache, times: Times, tally: Tally
) -> None:
    state = np.random.default_rng(1).bytes(3000)
    cache.keep_state(SPEC, "key", state)
    (path,) = (cache.folder / "unfinished").glob("*.state")
    content = path.read_bytes()
    for fault, copy in damaged_copies(content, times(100, 10_000), times(100, 10**9)):
        path.write_bytes(copy)
        tally(f"{fault} of state", cache.state(SPEC, "key") is None)
        path.write_bytes(content)
    assert cache.state(SPEC, "key") == state


def test_damaged_images_are_decoded_again(
    splits: Splits, tmp_path: Path, times: Times, tally: Tally
) -> None:
    load_splits(EXPERIMENT, tmp_path, tmp_path / "data", seed=0)
    path = next((tmp_path / "data").glob("valid-*.arrow"))
    content = path.read_bytes()
    for fault, copy in damaged_copies(content, times(5, 100), times(5, 100)):
        path.write_bytes(copy)
        again = load_splits(EXPERIMENT, tmp_path, tmp_path / "data", seed=0)
        same = bool((again["valid"].images_SCHW == splits["valid"].images_SCHW).all())
        tally(f"{fault} of images", same and path.with_name(path.name + ".damaged").exists())


def test_a_damaged_record_is_never_used(tmp_path: Path, times: Times, tally: Tally) -> None:
    path = tmp_path / "00000.json"
    record = {"number": 3, "params": {"k": 3, "epsilon": 0.1}, "epochs": [{"valid_loss": 1.5}] * 9}
    write_record(path, record)
    content = path.read_bytes()
    for fault, copy in damaged_copies(content, times(300, 10_000), times(100, 10**9)):
        path.write_bytes(copy)
        try:
            held = read_record(path) == record  # white space may change
        except DamagedFileError:
            held = True
        tally(f"{fault} of record", held)


def test_an_intact_table_of_another_kind_is_refused(cache: PredictionCache, splits: Splits) -> None:
    with pytest.raises(DamagedFileError, match="is not a table of image"):
        read_samples(cache.path(SPEC, "key", "valid"), "image")
