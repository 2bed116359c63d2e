from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcel.data import draw
from distcel.data.draw import kept_of_each
from distcel.data.formats import Source, array_pool
from distcel.data.images import Images
from distcel.data.splits import Splits, load_splits
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES
from tests.made_data import balanced, pictures

DIGITS = replace(load_experiment("digits", "quick"), image_size=None)


def images_of(shades: list[int]) -> Images:
    return np.array(shades, np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 2), np.uint8)


@given(*[st.lists(st.integers(0, 9), max_size=20)] * 3)
def test_no_image_is_left_in_two_splits(
    train: list[int], valid: list[int], test: list[int]
) -> None:
    shades = {"train": train, "valid": valid, "test": test}
    kept = kept_of_each({name: images_of(shades[name]) for name in SPLIT_NAMES})
    left = {name: [shades[name][i] for i in kept[name]] for name in SPLIT_NAMES}
    assert left["test"] == test
    # The first of each, in their order: what a dictionary keeps.
    assert left["valid"] == [shade for shade in dict.fromkeys(valid) if shade not in test]
    assert left["train"] == [s for s in dict.fromkeys(train) if s not in {*test, *valid}]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    """60 training samples; the first two have an image of test, the third is there twice."""
    labels = balanced(2, 30)
    images, of_test = (pictures(labels, 1, 16, seed) for seed in (0, 1))
    images[:2], images[3] = of_test[:2], images[2]
    train = array_pool(tuple(f"train {i}" for i in range(60)), labels, images)
    test = array_pool(tuple(f"test {i}" for i in range(60)), labels, of_test)
    found = Source(("a", "b"), train, test)
    monkeypatch.setattr(draw, "read_source", lambda *_: found)
    return found


def names_and_bytes(splits: Splits) -> dict[str, bytes]:
    return {
        sample_id: image.tobytes()
        for name in SPLIT_NAMES
        for sample_id, image in zip(
            splits[name].sample_ids.to_pylist(), splits[name].images_SCHW, strict=True
        )
    }


@pytest.mark.parametrize("seed", range(4))
def test_duplicates_are_left_out_and_counted(source: Source, seed: int, tmp_path: Path) -> None:
    for _ in range(2):  # decoded, and from the cache
        splits = load_splits(DIGITS, tmp_path, tmp_path / "cache", seed)
        assert splits.n_duplicates == 3
        found = names_and_bytes(splits)
        assert len(found) == len(set(found.values())) == 117
        assert not {"train 0", "train 1"} & set(found)
        assert len({"train 2", "train 3"} & set(found)) == 1
        for name in SPLIT_NAMES:
            first = splits[name].sample_ids.to_pylist()
            assert [int(i.split()[1]) // 30 for i in first] == splits[name].labels_S.tolist()


def test_a_class_of_duplicates_alone_is_refused(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = replace(source, test=replace(source.train, sample_ids=source.test.sample_ids))  # type: ignore[union-attr]
    monkeypatch.setattr(draw, "read_source", lambda *_: twice)
    with pytest.raises(InvalidInputError, match="no train samples of 'a'"):
        load_splits(DIGITS, tmp_path, tmp_path / "cache", 0)


def test_a_data_set_without_duplicates_keeps_every_sample(tmp_path: Path) -> None:
    splits = load_splits(DIGITS, tmp_path, tmp_path / "cache", 0)
    assert splits.n_duplicates == 0
    assert sum(len(splits[name].labels_S) for name in SPLIT_NAMES) == 1797
