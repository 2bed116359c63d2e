import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from distcel.data.crossfit import Fold, cross_fitted, held_out_parts, hold_out
from distcel.data.splits import Split, Splits, load_splits
from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import Architecture, LearnerSpec, Recipe, SelectorSplit
from distcel.pipeline import train_base_learners
from distcel.search.prepare import Options, Prepared, prepare
from distcel.storage.files import DamagedFileError
from distcel.train.cache import CachedSplit, PredictionCache, TrainedLearner
from distcel.train.learner import learner_key
from search_spaces import load_experiment
from tests.made_data import balanced, save_image

DIGITS = load_experiment("digits", "smoke")
# Long enough to know every one of some hundred images by heart.
BY_HEART = replace(
    load_experiment("folder", "smoke"),
    image_size=16,
    architecture=Architecture("lenet", (6, 16)),
    learner_recipe=Recipe("adam", lr=0.003, epochs=40, batch_size=16),
    valid_share=0.3,
)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(DIGITS, folder, folder, seed=0)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of noise that nothing tells apart: whoever knows an image has seen it."""
    folder, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir()
        for number in range(100):
            image = random.integers(0, 256, (1, 16, 16), dtype=np.uint8)
            save_image(image, folder / name / f"{number}.png")
    return folder


def prepared_on(data_dir: Path, run_dir: Path, selector_split: SelectorSplit) -> Prepared:
    uri = f"sqlite:///{run_dir}/mlflow.db"
    options = Options("smoke", data_dir, run_dir, 0, None, None, uri, selector_split=selector_split)
    return prepare(BY_HEART, options)


def accuracy(split: CachedSplit) -> float:
    return float((split.probs_SNC.argmax(-1) == split.labels_S[:, None]).mean())


def ids(split: Split) -> list[str]:
    found: list[str] = split.sample_ids.to_pylist()
    return found


def members(parts: list[NDArray[np.bool_]], labels: NDArray[np.int64]) -> list[list[int]]:
    """By part, how many samples of each class it holds."""
    return [np.bincount(labels[part], minlength=labels.max() + 1).tolist() for part in parts]


def test_the_thirds_are_a_partition_by_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [31, 9, 50]))
    parts = held_out_parts(labels, "crossfit", seed=0)
    np.testing.assert_array_equal(np.sum(parts, 0), np.ones(90))
    for counts in members(parts, labels):
        np.testing.assert_allclose(counts, [31 / 3, 3, 50 / 3], atol=1)


def test_the_holdout_is_a_fifth_of_each_class() -> None:
    parts = held_out_parts(balanced(3, 20), "holdout", seed=0)
    assert members(parts, balanced(3, 20)) == [[4, 4, 4]]


def test_nothing_is_held_out_of_train() -> None:
    assert held_out_parts(balanced(3, 1), "train", seed=0) == []


@pytest.mark.parametrize("selector_split", ["holdout", "crossfit"])
def test_the_draw_is_the_seeds(selector_split: SelectorSplit) -> None:
    first, again, other = (held_out_parts(balanced(3, 20), selector_split, s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("selector_split", "needed"), [("holdout", 5), ("crossfit", 3)])
def test_a_class_with_too_few_samples_is_refused(
    selector_split: SelectorSplit, needed: int
) -> None:
    held_out_parts(balanced(2, needed), selector_split, 0)
    labels = np.delete(balanced(2, needed), 0)
    with pytest.raises(InvalidInputError, match=f"{needed} training samples of every class"):
        held_out_parts(labels, selector_split, 0)


def test_what_is_held_out_is_no_longer_in_train_and_the_rest_is_as_it_was(splits: Splits) -> None:
    whole = splits["train"]
    (held_out,) = held_out_parts(whole.labels, "holdout", seed=0)
    found = hold_out(splits, held_out)
    assert not set(ids(found["train"])) & set(ids(found["holdout"]))
    assert sorted(ids(found["train"]) + ids(found["holdout"])) == sorted(ids(whole))
    place = {sample_id: i for i, sample_id in enumerate(ids(whole))}
    for part in (found["train"], found["holdout"]):
        rows = [place[sample_id] for sample_id in ids(part)]
        np.testing.assert_array_equal(part.labels, whole.labels[rows])
        np.testing.assert_array_equal(part.images, whole.images[rows])
    assert found["valid"] is splits["valid"]
    assert found["test"] is splits["test"]


def test_the_digest_tells_what_is_held_out_of_which_data(splits: Splits) -> None:
    labels = splits["train"].labels
    parts = held_out_parts(labels, "crossfit", 0) + held_out_parts(labels, "holdout", 0)
    digests = [hold_out(splits, part).digest for part in parts]
    digests.append(hold_out(replace(splits, digest="other"), parts[0]).digest)
    assert len({splits.digest, *digests}) == 6
    assert hold_out(splits, parts[0]).digest == digests[0]


def test_each_sample_is_predicted_by_the_copies_of_its_own_fold(
    splits: Splits, tmp_path: Path
) -> None:
    specs = [LearnerSpec("first", (0,)), LearnerSpec("second", (1,))]
    cache, folds = PredictionCache(tmp_path, ("holdout",)), []
    for number, part in enumerate(held_out_parts(splits["train"].labels, "crossfit", 0)):
        folds.append(Fold(part, (f"a{number}", f"b{number}")))
        rest = hold_out(splits, part)
        for i, (spec, key) in enumerate(zip(specs, folds[-1].keys, strict=True)):
            told = np.full((part.sum(), 10), 10 * i + number, np.float32)
            cache.write(spec, key, rest, TrainedLearner({"holdout": told}, {}, 1.0))
    found = cross_fitted(cache, specs, folds, splits["train"])
    assert found.probs_SNC.dtype == np.float32
    np.testing.assert_array_equal(found.labels_S, splits["train"].labels)
    for number, fold in enumerate(folds):
        assert (found.probs_SNC[fold.held_out_S, 0] == number).all()
        assert (found.probs_SNC[fold.held_out_S, 1] == 10 + number).all()
    # Another fold's predictions are of other samples, and refused.
    swapped = [Fold(folds[0].held_out_S, folds[1].keys), *folds[1:]]
    with pytest.raises(DamagedFileError, match="its samples are not the holdout split's"):
        cross_fitted(cache, specs, swapped, splits["train"])


def test_the_keys_of_train_are_those_of_before_the_flag(noise: Path, tmp_path: Path) -> None:
    train, holdout, crossfit = (
        prepared_on(noise, tmp_path, split) for split in ("train", "holdout", "crossfit")
    )
    data = load_splits(BY_HEART, noise, tmp_path / "data", 0)
    keys = tuple(learner_key(BY_HEART, spec, data, train.plan, 0) for spec in train.specs)
    assert train.keys == crossfit.keys == keys
    assert train.plan == holdout.plan == crossfit.plan
    every = [*keys, *holdout.keys, *(key for fold in crossfit.folds for key in fold.keys)]
    assert len(set(every)) == 3 * (1 + 1 + 3)
    assert len({train.search_key, holdout.search_key, crossfit.search_key}) == 3


def test_the_keys_of_a_fold_are_those_of_the_data_without_it(noise: Path, tmp_path: Path) -> None:
    prepared = prepared_on(noise, tmp_path, "crossfit")
    for fold in prepared.folds:
        rest = hold_out(prepared.splits, fold.held_out_S)
        keys = [learner_key(BY_HEART, spec, rest, prepared.plan, 0) for spec in prepared.specs]
        assert fold.keys == tuple(keys)


@pytest.fixture(scope="module")
def trained(noise: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[SelectorSplit, Prepared]:
    """All three, in one run directory."""
    folder = tmp_path_factory.mktemp("run")
    names: tuple[SelectorSplit, ...] = get_args(SelectorSplit)
    found = {name: prepared_on(noise, folder, name) for name in names}
    for prepared in found.values():
        train_base_learners(prepared, InlineExecutor())
    return found


@pytest.mark.parametrize("selector_split", get_args(SelectorSplit))
def test_what_the_selection_net_is_trained_on_is_known_by_heart_in_train_alone(
    selector_split: SelectorSplit, trained: dict[SelectorSplit, Prepared]
) -> None:
    prepared = trained[selector_split]
    selected_on, valid = accuracy(prepared.cached("train")), accuracy(prepared.cached("valid"))
    assert valid == pytest.approx(0.5, abs=0.1)
    if selector_split == "train":
        assert selected_on > 0.99
    else:
        assert selected_on == pytest.approx(valid, abs=0.1)


def test_the_selection_net_has_the_samples_that_the_flag_says(
    trained: dict[SelectorSplit, Prepared],
) -> None:
    train, holdout, crossfit = (trained[name].cached("train") for name in get_args(SelectorSplit))
    np.testing.assert_array_equal(train.images_SCHW, crossfit.images_SCHW)
    np.testing.assert_array_equal(train.labels_S, crossfit.labels_S)
    assert np.bincount(train.labels_S).tolist() == [56, 56]
    assert len(holdout.labels_S) == 23
    own = trained["holdout"].splits
    np.testing.assert_array_equal(holdout.images_SCHW, own["holdout"].images)
    assert not set(ids(own["holdout"])) & set(ids(own["train"]))
    everything = [sample_id for name in ("train", "holdout") for sample_id in ids(own[name])]
    assert sorted(everything) == sorted(ids(trained["train"].splits["train"]))


@pytest.mark.parametrize("selector_split", ["holdout", "crossfit"])
def test_what_is_there_is_not_trained_again_and_what_is_damaged_is(
    selector_split: SelectorSplit,
    trained: dict[SelectorSplit, Prepared],
    caplog: pytest.LogCaptureFixture,
) -> None:
    prepared = trained[selector_split]
    caplog.set_level("INFO", "distcel")

    def counts() -> list[str]:
        found = re.findall(r"(\d+) .* trained", "\n".join(caplog.messages))
        caplog.clear()
        return found

    before = prepared.cached("train").probs_SNC
    crossed = selector_split == "crossfit"
    train_base_learners(prepared, InlineExecutor())
    assert counts() == ["0"] * (4 if crossed else 1)

    keys = prepared.folds[1].keys if crossed else prepared.keys
    path = prepared.copies_cache.path(prepared.specs[2], keys[2], "holdout")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        prepared.cached("train")
    assert path.with_name(path.name + ".damaged").exists()
    train_base_learners(prepared, InlineExecutor())
    assert counts() == (["0", "0", "1", "0"] if crossed else ["1"])
    np.testing.assert_array_equal(prepared.cached("train").probs_SNC, before)
