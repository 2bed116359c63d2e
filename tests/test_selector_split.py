"""What the selection net is trained on: train, a holdout of it, or cross-fitted predictions."""

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from distcel.data.splits import Split, load_splits
from distcel.data.subsets import hold_out
from distcel.execute.inline import InlineExecutor
from distcel.experiment.architecture import Architecture
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Recipe, SelectorSplit
from distcel.pipeline import train_base_learners
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.storage.files import DamagedFileError
from distcel.train.learner import learner_key
from tests.made_data import save_image

# Long enough to know every one of some hundred images by heart.
BY_HEART = replace(
    load_experiment("folder", "smoke"),
    image_size=16,
    architecture=Architecture("lenet", (6, 16)),
    learner_recipe=Recipe("adam", lr=0.003, epochs=40, batch_size=16),
    valid_share=0.3,
)


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


def accuracy(split: Split) -> float:
    return float((split.probs_SNC.argmax(-1) == split.labels_S[:, None]).mean())


def ids(split: Split) -> list[str]:
    found: list[str] = split.sample_ids.to_pylist()
    return found


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
    # Half of what was never seen is right by chance, give or take a tenth; of what was, all is.
    assert valid < 0.75
    if selector_split == "train":
        assert selected_on > 0.95
    else:
        assert selected_on < 0.75


def test_the_selection_net_has_the_samples_that_the_flag_says(
    trained: dict[SelectorSplit, Prepared],
) -> None:
    train, holdout, crossfit = (trained[name].cached("train") for name in get_args(SelectorSplit))
    np.testing.assert_array_equal(train.images_SCHW, crossfit.images_SCHW)
    np.testing.assert_array_equal(train.labels_S, crossfit.labels_S)
    assert np.bincount(train.labels_S).tolist() == [56, 56]
    assert len(holdout.labels_S) == 23
    own = trained["holdout"].splits
    np.testing.assert_array_equal(holdout.images_SCHW, own["holdout"].images_SCHW)
    for prepared in trained.values():
        task = prepared.selection_task()
        assert set(task.splits.by_name) == {"train", "valid"}
        np.testing.assert_array_equal(task.train.labels_S, prepared.cached("train").labels_S)
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
