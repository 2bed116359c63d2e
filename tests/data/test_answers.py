"""Answers of predictors that were not trained here, from files of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distcel.data.answers import Answers, read_answers
from distcel.data.splits import Split
from distcel.data.unlabelled import read_unlabelled
from distcel.experiment.types import SPLIT_NAMES
from tests import made_data as data
from tests.made_answers import (
    CLASSES,
    IDS,
    LABELS,
    class_columns,
    distributions,
    labels,
    read,
    write,
    write_pool,
)


def whole(answers: Answers) -> Split:
    """All samples in the order of their ids."""
    splits = [answers.splits[name] for name in SPLIT_NAMES]
    ids = [i for split in splits for i in split.sample_ids.to_pylist()]
    order = np.argsort(ids)
    return Split(
        pa.array([ids[i] for i in order]),
        np.concatenate([split.labels_S for split in splits])[order],
        np.concatenate([split.images_SCHW for split in splits])[order],
        np.concatenate([split.probs_SNC for split in splits])[order],
    )


def test_every_predictor_is_in_the_splits_with_its_price(tmp_path: Path) -> None:
    answers = read(write_pool(tmp_path), "third")
    assert answers.names == ("third", "first", "second")
    assert answers.prices_N == (0, 1, 0.5)
    assert (answers.n_always, answers.n_raised) == (1, 0)
    assert answers.splits.class_names == CLASSES
    assert answers.splits.n_duplicates == 0
    split = whole(answers)
    assert split.sample_ids.to_pylist() == IDS
    assert [CLASSES[label] for label in split.labels_S] == LABELS
    assert split.learners_correct[:, 1:].mean(0).tolist() == [0.75, pytest.approx(2 / 3)]
    assert np.array_equal(split.probs_SNC[:, 0], distributions())
    assert split.probs_SNC[1, 1].tolist() == [0.125, 0.75, 0.125]
    for part in answers.splits.by_name.values():
        assert part.probs_SNC.dtype == part.images_SCHW.dtype == np.float32
        assert part.probs_SNC.flags.c_contiguous
        assert not part.probs_SNC.flags.writeable


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows", ".feather"])
def test_a_table_is_the_same_in_every_format(suffix: str, tmp_path: Path) -> None:
    of_csv = read(write_pool(tmp_path))
    for name, columns in (("first", labels(4)), ("third", class_columns(distributions()))):
        (tmp_path / f"{name}.csv").unlink()
        write(tmp_path / f"{name}{suffix}", columns)
    assert read(tmp_path).splits.digest == of_csv.splits.digest


def test_ids_and_labels_of_a_dictionary_and_of_doubles_are_read(tmp_path: Path) -> None:
    of_csv = read(write_pool(tmp_path))
    columns = dict(labels(4))
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    table = table.set_column(1, "label", table["label"].dictionary_encode())
    (tmp_path / "first.csv").unlink()
    pq.write_table(table, tmp_path / "first.parquet")
    doubles = pa.table(class_columns(distributions())).cast(
        pa.schema([("sample_id", pa.large_string()), *((name, pa.float64()) for name in CLASSES)])
    )
    (tmp_path / "third.csv").unlink()
    pq.write_table(doubles, tmp_path / "third.parquet")
    assert read(tmp_path).splits.digest == of_csv.splits.digest


@pytest.mark.parametrize("n_classes", [2, 3, 7, 10, 97])
def test_the_label_is_the_most_probable_class_whatever_its_confidence(
    n_classes: int, tmp_path: Path
) -> None:
    names = [f"c{i:03d}" for i in range(n_classes)]
    given = [0, 0.5 / n_classes, 1 / n_classes, min(1, 1.01 / n_classes), 1]
    ids = [f"{i}-{name}" for i in range(len(given)) for name in names]
    said = names * len(given)
    confidence = np.repeat(given, n_classes)
    columns = {"sample_id": ids, "label": said}
    parts = np.repeat(["train", "train", "train", "valid", "test"], n_classes)
    write(tmp_path / "truth.csv", {**columns, "split": parts})
    write(tmp_path / "all.csv", {**columns, "confidence": confidence})
    write(tmp_path / "sure.csv", {**columns, "confidence": [1.0] * len(ids)})
    answers = read_answers(tmp_path, tmp_path / "truth.csv", always=["sure"])
    assert answers.n_raised == 3 * n_classes
    split = whole(answers)
    own = [names.index(i.partition("-")[2]) for i in split.sample_ids.to_pylist()]
    probs_SC = split.probs_SNC[:, 1].astype(np.float64)
    assert probs_SC.argmax(1).tolist() == own
    assert np.allclose(probs_SC.sum(1), 1)
    by_confidence = probs_SC.max(1).reshape(len(given), n_classes)
    assert (by_confidence > 1 / n_classes).all()
    assert (np.diff(by_confidence[:, 0]) > 0).all()  # their order is kept
    np.testing.assert_allclose(by_confidence[1], 1 / n_classes + (1 - 1 / n_classes) * given[1])
    assert (by_confidence[-1] == 1).all()


def test_a_predictor_is_raised_later_as_it_was_in_training(tmp_path: Path) -> None:
    labels = ["a", "b"] * 3
    truth = {"sample_id": range(6), "label": labels, "split": np.repeat(list(SPLIT_NAMES), 2)}
    write(tmp_path / "truth.csv", truth)
    (pool := tmp_path / "pool").mkdir()
    columns = {"sample_id": range(6), "label": labels}
    write(pool / "low.csv", {**columns, "confidence": [0.1, *[0.6] * 5]})
    write(pool / "plain.csv", {**columns, "confidence": [0.6] * 6})
    answers = read_answers(pool, tmp_path / "truth.csv", always=["plain"])
    assert answers.raised == ("low",)
    (later := tmp_path / "later").mkdir()
    rows = {"sample_id": ["x", "y"], "label": ["a", "a"]}
    for name in ("low", "plain"):
        write(later / f"{name}.csv", {**rows, "confidence": [0.6, 0.9 if name == "low" else 0.2]})
    given = answers.names, ("a", "b"), answers.raised
    _, probs_SNC, _ = read_unlabelled(tmp_path, later, *given, None, None)
    # 0.5 + 0.5 * 0.6 for low; of plain 0.6 stays, and 0.2 is the least that keeps the label first.
    np.testing.assert_allclose(probs_SNC[:, :, 0], [[0.6, 0.8], [0.5, 0.95]], atol=1e-6)
    assert probs_SNC.argmax(-1).max() == 0


def test_confidences_above_one_over_c_are_kept_as_they_are(tmp_path: Path) -> None:
    write_pool(tmp_path)
    assert read(tmp_path).n_raised == 0


def test_probabilities_by_class_are_kept_bit_for_bit_in_any_order_of_columns(
    tmp_path: Path,
) -> None:
    write_pool(tmp_path)
    columns = class_columns(distributions(5))
    write(tmp_path / "third.csv", {name: columns[name] for name in reversed(list(columns))})
    assert np.array_equal(whole(read(tmp_path)).probs_SNC[:, 2], distributions(5))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("in_folder", [True, False])
def test_an_array_has_predictors_by_their_places_or_names(
    suffix: str, in_folder: bool, tmp_path: Path
) -> None:
    truth = write(tmp_path / "pool" / "truth.csv", {"sample_id": IDS, "label": LABELS})
    array = np.stack([distributions(i) for i in range(3)], axis=1).astype(np.float64)
    array[4, 1], array[5, 2] = np.nan, 0
    path = tmp_path / "pool" / f"of-all{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, predictions=array, names=np.array(["x", "y", "z"]))
    last = "p2" if suffix == ".npy" else "z"
    answers = read_answers(path.parent if in_folder else path, truth, always=[last])
    assert answers.names == (("p2", "p0", "p1") if suffix == ".npy" else ("z", "x", "y"))
    split = whole(answers)
    assert np.array_equal(split.probs_SNC[6:], array[6:, [2, 0, 1]].astype(np.float32))
    assert np.argwhere(~split.answered).tolist() == [[4, 2], [5, 0]]
    assert sum(map(sum, answers.n_unanswered.values())) == 2


def test_samples_without_an_answer_have_zeros_and_are_counted(tmp_path: Path) -> None:
    write_pool(tmp_path)
    rows = distributions()
    rows[7] = np.nan
    write(tmp_path / "third.csv", class_columns(rows))
    columns = {name: list(values) for name, values in labels(4).items()}
    columns["label"][8], columns["confidence"][8] = None, None
    columns["label"][9], columns["confidence"][9] = "nan", np.nan
    write(tmp_path / "first.csv", {name: values[:50] for name, values in columns.items()})
    answers = read(tmp_path)
    split = whole(answers)
    missing = [[7, 2], [8, 0], [9, 0], *([i, 0] for i in range(50, 60))]
    assert np.argwhere((split.probs_SNC == 0).all(-1)).tolist() == missing
    assert [sum(n) for n in zip(*answers.n_unanswered.values(), strict=True)] == [12, 0, 1]
    for name in SPLIT_NAMES:
        assert answers.n_unanswered[name] == tuple((~answers.splits[name].answered).sum(0))
    assert not split.images_SCHW[8].any()  # what the always-asked predictor did not answer


def test_an_unanswered_sample_is_not_correct(tmp_path: Path) -> None:
    write_pool(tmp_path)
    write(tmp_path / "first.csv", {name: values[1:] for name, values in labels(7).items()})
    split = whole(read(tmp_path))
    assert split.labels_S[0] == 0 == split.probs_SNC[0, 0].argmax()
    assert not split.learners_correct[0, 0]
    assert split.learners_correct[3, 0]


def test_the_selection_net_sees_features_and_then_what_is_always_asked(tmp_path: Path) -> None:
    write_pool(tmp_path)
    seen = np.random.default_rng(0).normal(size=(61, 2))
    ids = [*reversed(IDS), "another"]
    table = {"sample_id": ids, "x": seen[:, 0], "y": seen[:, 1]}
    features = write(tmp_path / "features.csv", table)  # in the folder, and no predictor
    truth, prices = tmp_path / "truth.csv", tmp_path / "prices.json"
    alone = read_answers(tmp_path, truth, features=features, prices=prices)
    assert alone.names == ("first", "second", "third")
    expected = seen[59::-1].astype(np.float32)
    assert np.array_equal(whole(alone).images_SCHW, expected)
    np.save(tmp_path.parent / "features.npy", np.asfortranarray(expected))
    features.unlink()
    both = read_answers(
        tmp_path,
        truth,
        features=tmp_path.parent / "features.npy",
        always=["second", "third"],
        prices=prices,
    )
    split = whole(both)
    assert split.images_SCHW.shape == (60, 2 + 2 * 9)
    assert np.array_equal(split.images_SCHW[:, :2], expected)
    first, p, logs = split.images_SCHW[:, 11:].reshape(60, 3, 3).transpose(1, 0, 2)
    assert np.array_equal(p, distributions())
    assert np.array_equal(first, np.eye(3)[p.argmax(1)])
    assert np.allclose(logs, np.log(np.maximum(p, 1e-3)) / 3)


@pytest.mark.parametrize("by", ["stem", "path", "array"])
def test_the_selection_net_sees_images(by: str, tmp_path: Path) -> None:
    images = data.pictures(data.balanced(3, 20), 3, 12, 0)
    ids = [f"{i % 2}/{i:03d}.png" if by == "path" else f"{i:03d}" for i in range(60)]
    if by == "array":
        np.save(tmp_path / "seen.npy", images)
    else:
        for i, image in enumerate(images):
            path = tmp_path / "seen" / f"{i % 2}" / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data.save_image(image, path)
    pool = write_pool(tmp_path / "pool")
    for path in pool.glob("*.csv"):
        text = path.read_text()
        for old, new in zip(IDS, ids, strict=True):
            text = text.replace(f'"{old}"', f'"{new}"')
        path.write_text(text)
    features = tmp_path / ("seen.npy" if by == "array" else "seen")
    truth, prices = pool / "truth.csv", pool / "prices.json"
    answers = read_answers(pool, truth, features=features, prices=prices)
    split = answers.splits["train"]
    places = [ids.index(i) for i in split.sample_ids.to_pylist()]
    assert split.images_SCHW.dtype == np.uint8
    assert np.array_equal(split.images_SCHW, images[places])
    small = read_answers(pool, truth, features=features, prices=prices, image_size=8)
    assert small.splits.image_shape == (3, 8, 8)


def test_splits_are_those_of_the_truth_in_its_order(tmp_path: Path) -> None:
    write_pool(tmp_path)
    names = [("test", "train", "valid", "train")[i // 3 % 4] for i in range(60)]
    rows = {"sample_id": IDS[::-1], "label": LABELS[::-1], "split": names[::-1]}
    write(tmp_path / "truth.csv", rows)
    for name in SPLIT_NAMES:
        expected = [i for i, of in zip(IDS, names, strict=True) if of == name]
        assert read(tmp_path).splits[name].sample_ids.to_pylist() == expected[::-1]


def test_drawn_splits_are_by_class_and_test_is_the_same_for_every_seed(tmp_path: Path) -> None:
    write_pool(tmp_path)
    drawn = [read(tmp_path, seed=seed).splits for seed in (0, 0, 1)]
    ids = [{name: s[name].sample_ids.to_pylist() for name in SPLIT_NAMES} for s in drawn]
    assert drawn[0].digest == drawn[1].digest != drawn[2].digest
    assert ids[0]["test"] == ids[2]["test"]
    assert ids[0]["valid"] != ids[2]["valid"]
    for split, size in (("train", 24), ("valid", 6), ("test", 30)):
        labels_S = drawn[0].by_name[split].labels_S  # type: ignore[index]
        assert np.bincount(labels_S).tolist() == [size // 3] * 3
        assert ids[0][split] == sorted(ids[0][split])  # type: ignore[index]
    assert sorted(i for found in ids[0].values() for i in found) == IDS


def test_whole_numbers_are_one_label_with_and_without_a_decimal_point(tmp_path: Path) -> None:
    said = [str(9 + i % 3) for i in range(60)]
    dotted = [f"{label}.0" for label in said]
    write(tmp_path / "truth.csv", {"sample_id": IDS, "label": dotted})
    write(tmp_path / "a.csv", {"sample_id": IDS, "label": said, "confidence": [1] * 60})
    numbers = {"sample_id": IDS, "label": list(map(float, said)), "confidence": [0.5] * 60}
    write(tmp_path / "b.parquet", numbers)
    write(tmp_path / "c.csv", {"sample_id": IDS, "9.0": [1] * 60, "10": [0] * 60, "11": [0] * 60})
    answers = read_answers(tmp_path, tmp_path / "truth.csv", always=["a"])
    assert answers.splits.class_names == ("9", "10", "11")
    assert whole(answers).learners_correct.mean(0).tolist() == [1, 1, pytest.approx(1 / 3)]


def test_text_is_no_number_where_some_label_is_none(tmp_path: Path) -> None:
    said = [("1", "1.0", "one")[i % 3] for i in range(60)]
    columns = {"sample_id": IDS, "label": said}
    write(tmp_path / "truth.csv", columns)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", {**columns, "confidence": [1] * 60})
    answers = read_answers(tmp_path, tmp_path / "truth.csv", always=["a"])
    assert answers.splits.class_names == ("1", "1.0", "one")
    assert whole(answers).learners_correct.all()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("truth.csv", '"007"', '"0o7"'),
        ("truth.csv", '"007","bee"', '"007","cow"'),
        ("second.csv", '"007","bee",0.75', '"007","bee",0.875'),
        ("third.csv", None, "fourth.csv"),
    ],
)
def test_the_digest_is_that_of_the_content(
    file: str, old: str | None, new: str, tmp_path: Path
) -> None:
    write_pool(tmp_path)
    parts = [SPLIT_NAMES[i // 3 % 3] for i in range(60)]  # a draw would change with the labels
    write(tmp_path / "truth.csv", {"sample_id": IDS, "label": LABELS, "split": parts})
    before = read(tmp_path).splits.digest
    assert read(tmp_path).splits.digest == before
    if old is None:
        (tmp_path / file).rename(tmp_path / new)
        prices = (tmp_path / "prices.json").read_text().replace("third", "fourth")
        (tmp_path / "prices.json").write_text(prices)
    else:
        for path in tmp_path.glob("*.csv") if "0o7" in new else [tmp_path / file]:
            path.write_text(path.read_text().replace(old, new))
    assert read(tmp_path).splits.digest != before
    assert read(tmp_path).splits.digest != read(tmp_path, "second").splits.digest


@pytest.mark.parametrize(
    ("name", "always", "expected"),
    [
        ("ferplus", "github-cnn", {"facepp": 68.4, "google": 67.7, "microsoft": 81.4}),
        ("yelp", "github-vader", {"amazon": 86.9, "baidu": 51.4, "google": 95.7}),
    ],
)
def test_commercial_services_are_as_accurate_as_published(
    name: str, always: str, expected: dict[str, float], shared_data: Path
) -> None:
    folder = shared_data / "services" / name
    if not folder.is_dir():
        pytest.skip(f"no answers of services at {folder}")
    prices = folder / "prices.json"
    answers = read_answers(folder, folder / "truth.csv", always=[always], prices=prices)
    accuracies = 100 * whole(answers).learners_correct.mean(0)
    assert answers.prices_N == tuple(json.loads(prices.read_text())[n] for n in answers.names)
    assert answers.names == (always, *expected)
    assert accuracies[0] == pytest.approx(65.1 if name == "ferplus" else 74.5, abs=0.05)
    assert accuracies[1:] == pytest.approx(list(expected.values()), abs=0.05)
