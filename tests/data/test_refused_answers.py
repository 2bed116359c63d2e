"""Answers that cannot be used are refused, in one line that names them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from distcel.data.answers import read_answers
from distcel.experiment.errors import InvalidInputError
from tests import made_data as data
from tests.made_answers import IDS, LABELS, class_columns, distributions, labels, write, write_pool

Change = Callable[[Path], object]


def text(file: str, old: str, new: str, count: int = -1) -> Change:
    """Replace text of a file of the pool; `^` in `old` is the beginning of a line."""

    def change(folder: Path) -> None:
        content = (folder / file).read_text()
        changed = re.sub(old, new, content, count=max(count, 0), flags=re.MULTILINE)
        assert changed != content
        (folder / file).write_text(changed)

    return change


def table(file: str, **columns: Any) -> Change:
    return lambda folder: write(folder / file, columns)


def only(name: str) -> Change:
    """Remove the other predictors."""

    def change(folder: Path) -> None:
        for other in {"first", "second", "third"} - {name}:
            (folder / f"{other}.csv").unlink()

    return change


def rows(change: Callable[[Any], None]) -> Change:
    """Change the distributions of the third predictor."""

    def apply(folder: Path) -> None:
        changed = distributions()
        change(changed)
        write(folder / "third.csv", class_columns(changed))

    return apply


def put(row: int, *values: float) -> Change:
    return rows(lambda array: array.__setitem__(row, values))


def chain(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def only_first_class(folder: Path) -> None:
    (folder / "third.csv").unlink()
    for name in ("first", "second"):
        columns = {**labels(), "label": [["ant", "bee"][i % 2] for i in range(60)]}
        write(folder / f"{name}.csv", columns)


def silent_in_train(folder: Path) -> None:
    splits = ["train"] * 30 + ["valid"] * 15 + ["test"] * 15
    write(folder / "truth.csv", {"sample_id": IDS, "label": LABELS, "split": splits})
    write(folder / "first.csv", {name: values[30:] for name, values in labels().items()})


def not_utf8(folder: Path) -> None:
    places, content = pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")
    ids = pa.StringArray.from_buffers(1, places, content)
    table = pa.table({"sample_id": ids, "label": ["ant"], "confidence": [1.0]})
    with pa.ipc.new_file(folder / "fourth.arrow", table.schema) as writer:
        writer.write_table(table)


TRUTH: dict[str, tuple[Change, str]] = {
    "missing": (lambda d: (d / "truth.csv").unlink(), r"a readable table.*truth\.csv' \(.*No such"),
    "empty": (lambda d: (d / "truth.csv").write_text(""), "a readable table.*Empty CSV"),
    "binary": (lambda d: (d / "truth.csv").write_bytes(b"\xff\xfe\0,"), "a readable table.*truth"),
    "ragged": (text("truth.csv", '^"007".*', '"007"'), "a readable table.*Expected 2 columns"),
    "header alone": (text("truth.csv", r"^.\d[^$]*", ""), r"at least two classes in.*got \[\]"),
    "no ids": (text("truth.csv", "sample_id", "id"), r"a column sample_id.*\['id', 'label'\]"),
    "no label": (text("truth.csv", '"label"', '"class"'), r"the columns label.*got \['class'\]"),
    "column twice": (text("truth.csv", '"label"', '"sample_id"'), "every column once in .*truth"),
    "unknown column": (
        table("truth.csv", sample_id=IDS, label=LABELS, splits=LABELS),
        r"the columns label and.*'splits'\]",
    ),
    "id twice": (text("truth.csv", '^"008"', '"007"'), "1 in more than one of .*truth.*'007'"),
    "empty id": (text("truth.csv", '^"008"', '""'), "a sample_id in every row.*got 1 rows without"),
    "empty label": (text("truth.csv", '^("007"),.*', r"\1,"), "a label in every row.*got 1 rows"),
    "label on a terminal": (text("truth.csv", '"bee"', '"\x1b[2J"'), r"printable labels.*\\x1b"),
    "one class": (text("truth.csv", "bee|cow", "ant"), r"at least two classes in.*got \['ant'\]"),
    "rare class": (text("truth.csv", '^("00[78]"),.*', r'\1,"dog"'), "3 samples.*got 2 of 'dog'"),
    "too few": (
        lambda d: write(
            d / "truth.csv", {"sample_id": IDS[:9], "label": LABELS[:9], "split": ["train"] * 9}
        ),
        "samples of train, valid and test in the column split.*'none of valid'",
    ),
    "other split": (
        table("truth.csv", sample_id=IDS, label=LABELS, split=["train", "val", "test"] * 20),
        r"train, valid or test as the split of every row.*got \['val'\]",
    ),
    "class without valid": (
        table("truth.csv", sample_id=IDS, label=LABELS, split=["train", "valid", "test"] * 20),
        "samples of every class in every split, but got no train samples of 'bee'",
    ),
}
PREDICTORS: dict[str, tuple[Change, str]] = {
    "unknown file": (
        lambda d: (d / "notes.txt").touch(),
        r"one \.npy or \.npz file, or tables.*notes\.txt'",
    ),
    "array beside tables": (
        lambda d: np.save(d / "all.npy", np.zeros(3)),
        r"one \.npy or .*all\.npy",
    ),
    "folder": (lambda d: (d / "more").mkdir(), r"one \.npy or .*more'"),
    "one name twice": (
        table("first.parquet", **labels()),
        r"one file for each predictor.*'first\.csv'",
    ),
    "name on a terminal": (
        lambda d: (d / "first.csv").rename(d / "\x1b[2J.csv"),
        r"printable names of pred.*\\x1b",
    ),
    "one predictor": (only("first"), r"at least two predictors, but got \['first'\]"),
    "none": (
        chain(only("first"), lambda d: (d / "first.csv").unlink()),
        "files of predictors in the folder",
    ),
    "no confidence": (
        text("first.csv", ',"confidence"', ',"score"'),
        r"columns label and confidence, or.*\['label', 'score'\]",
    ),
    "class without column": (
        table("third.csv", sample_id=IDS, ant=[0] * 60, cow=[1] * 60),
        r"a column for every class .*none for \['bee'\]",
    ),
    "column of no class": (
        table("third.csv", **class_columns(distributions()), dog=[0] * 60),
        "columns label and confidence, or one for each class.*'dog'",
    ),
    "unknown ids": (
        text("first.csv", r'^"00([89])"', r'"x\1"'),
        "sample ids of .*truth.*2 others in .*first.*the first 'x8'",
    ),
    "id twice": (
        text("first.csv", '^"008"', '"007"'),
        "every sample_id in one row.*first.*the first '007'",
    ),
    "unknown label": (
        text("first.csv", '"bee",', '"BEE",', 3),
        r"labels of .*truth.*'BEE' with 0\.75 for '000' in .*first.* \(3 such rows\)",
    ),
    "label alone": (
        text("first.csv", r'^("007","bee"),.*', r"\1,"),
        "a label and a confidence, or neither, but got 'bee' with nan for '007'",
    ),
    "confidence alone": (
        text("first.csv", '^"007","bee"', '"007",'),
        "a label and a confidence, or neither, but got '' with 0.75 for '007'",
    ),
    "confidence above 1": (
        text("first.csv", r'^("007","bee"),.*', r"\1,1.00001"),
        "confidences from 0 to 1, but got 'bee' with 1.00001 for '007'",
    ),
    "confidence below 0": (
        text("first.csv", r'^("007","bee"),.*', r"\1,-0.1"),
        "confidences from 0 to 1, but got 'bee' with -0.1 for '007'",
    ),
    "infinite confidence": (
        text("first.csv", r'^("007","bee"),.*', r"\1,inf"),
        "confidences from 0 to 1, but got 'bee' with inf",
    ),
    "confidence in words": (
        text("first.csv", r'^("007","bee"),.*', r"\1,sure"),
        "numbers in the column 'confidence'.*first.*'sure'",
    ),
    "label that none gives": (only_first_class, r"every label of .*none that says \['cow'\]"),
    "nothing in train": (silent_in_train, r"answers of every predictor to.*none of \['first'\]"),
    "negative": (put(7, 1.5, -0.5, 0), "probabilities of at least 0.*least of -0.5 .* for '007'"),
    "sum above 1": (put(7, 0.5, 0.5, 0.002), r"sum to 1 within 0\.001.*sum of 1\.002 for '007'"),
    "sum of 0": (put(7, 0, 0, 0), "sum to 1 within .*a sum of 0 for '007'"),
    "infinite": (put(7, np.inf, 0, 0), "a sum of inf for '007'"),
    "infinite twice": (put(7, np.inf, -np.inf, 0), "a sum of nan for '007'"),
    "partly empty": (put(7, np.nan, 0.5, 0.5), "a sum of nan for '007'"),
    "damaged parquet": (
        lambda d: (d / "fourth.parquet").write_bytes(b"PAR1abc"),
        r"a readable table.*fourth\.parquet",
    ),
    "damaged arrow": (
        lambda d: (d / "fourth.arrow").write_bytes(b"ARROW1\0\0abc"),
        r"a readable table.*fourth\.arrow",
    ),
    "not UTF-8": (not_utf8, r"a readable table.*fourth\.arrow' \(.*UTF8"),
    "no arrow": (
        lambda d: (d / "fourth.feather").write_bytes(b"abc"),
        r"a readable table.*fourth\.feather",
    ),
}
PRICES: dict[str, tuple[Change, str]] = {
    "missing": (
        lambda d: (d / "prices.json").unlink(),
        "a readable JSON object of prices.*No such",
    ),
    "no JSON": (lambda d: (d / "prices.json").write_text("{"), "a readable JSON object of prices"),
    "no object": (lambda d: (d / "prices.json").write_text("[1]"), "from predictors.*got 'list'"),
    "none of one": (text("prices.json", ', "third": 0', ""), "a price of every.*none of 'third'"),
    "of another": (text("prices.json", "}", ', "x": 1}'), r"prices of \['first', .*got 'x'"),
    "twice": (text("prices.json", "}", ', "third": 1}'), "a name is there twice"),
    "negative": (text("prices.json", "1,", "-1,"), "0 <= price of first < infinity, but got -1"),
    "text": (text("prices.json", "1,", '"1",'), "0 <= price of first < infinity, but got '1'"),
    "truth": (text("prices.json", "1,", "true,"), "0 <= price of first < infinity, but got True"),
    "not a number": (text("prices.json", "1,", "NaN,"), "price of first < infinity, but got nan"),
}
POOLS = {
    f"{of}: {name}": case
    for of, cases in {"truth": TRUTH, "predictors": PREDICTORS, "prices": PRICES}.items()
    for name, case in cases.items()
}


def refusal(folder: Path, **given: Any) -> str:
    """The one line in which the pool is refused."""
    chosen: dict[str, Any] = {"always": ["first"], "prices": folder / "prices.json"} | given
    with pytest.raises(InvalidInputError) as caught:
        read_answers(chosen.pop("predictions", folder), folder / "truth.csv", **chosen)
    line = str(caught.value)
    assert line.startswith("expected ")
    assert "\n" not in line
    assert len(line) < 600
    return line


@pytest.mark.parametrize("case", POOLS)
def test_a_pool_that_is_wrong_somewhere_is_refused(case: str, tmp_path: Path) -> None:
    change, message = POOLS[case]
    folder = write_pool(tmp_path / "pool")
    read_answers(folder, folder / "truth.csv", always=["first"], prices=folder / "prices.json")
    change(folder)
    always = ["second"] if "name on" in case else ["first"]
    assert re.search(message, refusal(folder, always=always)), refusal(folder, always=always)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"always": []}, "something that the selection net sees, but got neither"),
        ({"always": ["fourth"]}, r"predictors among \['first', .* got 'fourth'"),
        ({"always": ["first", "first"]}, "always-asked predictors once"),
        ({"shares": (0.5, 0.5, 0.5)}, r"shares of train, valid and test .* \(0\.5, 0\.5, 0\.5\)"),
        ({"shares": (0.5, 0.5, 0.0)}, "shares of train, valid and test"),
        ({"shares": (0.5, 0.5)}, "shares of train, valid and test"),
        ({"shares": (0.97, 0.02, 0.01)}, r"enough samples .* but got \[20, 20, 20\] of the"),
        ({"image_size": 0}, "image_size >= 1"),
        ({"prices": None}, r"or tables.*prices\.json.*if it is no predictor's"),
        ({"predictions": Path("nowhere")}, "a folder with a file for each predictor.*'nowhere'"),
        ({"features": Path("nowhere.csv")}, "a readable table.*nowhere.csv"),
        ({"features": Path("nowhere.txt")}, "features in a folder of images or .*'nowhere.txt'"),
    ],
)
def test_a_choice_that_does_not_fit_the_pool_is_refused(
    given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    line = refusal(write_pool(tmp_path), **given)
    assert re.search(message, line), line


ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "other samples": ({"a": np.zeros((59, 3, 3))}, r"of shape \(60, predictors, 3\).*\(59, 3, 3\)"),
    "other classes": ({"a": np.zeros((60, 3, 4))}, r"of shape \(60, predictors, 3\)"),
    "no predictors": ({"a": np.zeros((60, 3))}, r"of shape \(60, predictors, 3\)"),
    "one predictor": ({"a": np.full((60, 1, 3), 1 / 3)}, "at least two predictors"),
    "sum": ({"a": np.full((60, 2, 3), 0.5)}, r"sum of 1\.5 for '000' in 'p0 of"),
    "too large": ({"a": np.full((60, 2, 3), 1e300)}, "a sum of inf for '000'"),
    "text": ({"a": np.full((60, 2, 3), "x")}, "an array of numbers in .*<U1"),
    "objects": ({"a": np.full((60, 2, 3), None)}, r"a readable file of numpy.*allow_pickle"),
    "two": ({"a": np.zeros(1), "b": np.zeros(1)}, r"one array, and at most.*\['a', 'b'\]"),
    "names": ({"a": np.full((60, 2, 3), 1 / 3), "names": np.array(["x", "x"])}, "2 different nam"),
    "numbers as names": ({"a": np.zeros(1), "names": np.arange(2)}, "`names` as an array of text"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_that_is_no_predictions_is_refused(case: str, tmp_path: Path) -> None:
    arrays, message = ARRAYS[case]
    write_pool(tmp_path)
    np.savez(tmp_path / "all.npz", **arrays)
    assert re.search(message, refusal(tmp_path, predictions=tmp_path / "all.npz", always=["p0"]))


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04abc"])
def test_a_damaged_array_is_refused(content: bytes, tmp_path: Path) -> None:
    write_pool(tmp_path)
    (tmp_path / "all.npy").write_bytes(content)
    line = refusal(tmp_path, predictions=tmp_path / "all.npy")
    assert re.search(r"a readable file of numpy, but got '.*all\.npy'", line)


NUMBERS: dict[str, Any] = {"sample_id": IDS, "x": np.arange(60.0)}
WITH_NAN = np.where(np.arange(60) == 7, np.nan, 1)
FEATURES: dict[str, tuple[Any, str]] = {
    "NaN": ({**NUMBERS, "y": WITH_NAN}, "finite numbers as features.*1 samples in .*'007'"),
    "too large": ({**NUMBERS, "y": WITH_NAN * 1e39}, "finite numbers as features.*60 samples"),
    "words": ({**NUMBERS, "y": LABELS}, "numbers in the column 'y'.*'(ant|cow)'"),
    "missing": (
        {name: values[2:] for name, values in NUMBERS.items()},
        "features of every sample of the truth.*none for 2 in .*'000'",
    ),
    "twice": ({**NUMBERS, "sample_id": [*IDS[:-1], "000"]}, "every sample_id in one row"),
    "no column": ({"sample_id": IDS}, "columns of numbers beside sample_id"),
    "other samples": (np.zeros((59, 2)), r"numbers \(60, features\) or uint8 .*\(59, 2\)"),
    "no numbers": (np.zeros((60, 0)), r"numbers \(60, features\)"),
    "floats as images": (np.zeros((60, 3, 4, 4)), r"numbers \(60, features\) or uint8"),
    "channels": (np.zeros((60, 2, 4, 4), np.uint8), r"1 or 3, height, width\)"),
    "a scalar": (np.zeros(()), r"numbers \(60, features\)"),
    "array with NaN": (WITH_NAN[:, None], "finite numbers as features.*'007'"),
    "images beside answers": (
        np.zeros((60, 3, 4, 4), np.uint8),
        "numbers as features beside always-asked predictors, but got images",
    ),
}


@pytest.mark.parametrize("case", FEATURES)
def test_features_that_a_net_cannot_see_are_refused(case: str, tmp_path: Path) -> None:
    content, message = FEATURES[case]
    folder = write_pool(tmp_path / "pool")
    path = tmp_path / ("features.csv" if isinstance(content, dict) else "features.npy")
    if isinstance(content, dict):
        write(path, content)
    else:
        np.save(path, content)
    line = refusal(folder, features=path)
    assert re.search(message, line), line


def test_images_without_an_image_of_a_sample_are_refused(tmp_path: Path) -> None:
    folder, seen = write_pool(tmp_path / "pool"), tmp_path / "seen"
    images = data.pictures(data.balanced(3, 20), 3, 12, 0)
    seen.mkdir()
    for i, image in zip(IDS, images, strict=True):
        data.save_image(image, seen / f"{i}.png")
    assert "beside always-asked" in refusal(folder, features=seen)
    (seen / "more").mkdir()
    data.save_image(images[0], seen / "more" / "007.png")
    line = refusal(folder, features=seen, always=[])
    assert re.search(r"one image for each sample id in .*several for \['007'\]", line)
    (seen / "007.png").unlink()
    (seen / "008.png").unlink()
    line = refusal(folder, features=seen, always=[])
    assert re.search("none for 1 in .*the first '008'", line)
