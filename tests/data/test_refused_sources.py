"""Data that cannot be used are refused, in one line that names them."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from distcel.data.formats import Source
from distcel.data.readers import READERS, read_source
from distcel.experiment.errors import InvalidInputError
from tests import made_data as data


@pytest.mark.parametrize("dataset", sorted(set(READERS) - {"digits"}))
@pytest.mark.parametrize("exists", [False, True])
def test_the_error_of_missing_data_names_their_source_and_their_folder(
    dataset: str, exists: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    with pytest.raises(InvalidInputError, match="expected a data directory with ") as caught:
        read_source(dataset, folder)
    assert str(folder) in str(caught.value)
    assert "--data-dir" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_error_of_an_unknown_data_set_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\['cifar10', .*'utkface'\].* got 'cifar100'"):
        read_source("cifar100", tmp_path)


@pytest.mark.parametrize("names", [("train", "val"), ("training", "validation"), ("val", "test")])
def test_split_folders_of_other_names_are_neither_classes_nor_ignored(
    names: tuple[str, str], tmp_path: Path
) -> None:
    for name in names:
        data.write_images(tmp_path / name, ("ant", "bee"), 3, 3, 20, 0)
    with pytest.raises(InvalidInputError, match="expected split folders named train and test"):
        read_source("folder", tmp_path)


def test_a_test_folder_beside_classes_is_no_class(tmp_path: Path) -> None:
    data.write_images(tmp_path, ("ant", "bee", "test"), 3, 3, 20, 0)
    with pytest.raises(InvalidInputError, match="expected train beside test, but got"):
        read_source("folder", tmp_path)


@pytest.mark.parametrize("dataset", ["cifar10", "fer2013"])
def test_a_published_data_set_without_its_test_split_is_refused(
    dataset: str, tmp_path: Path
) -> None:
    write = data.write_cifar10 if dataset == "cifar10" else data.write_fer2013_folders
    write(tmp_path)
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(InvalidInputError, match="expected images in train and in test, but got"):
        read_source(dataset, tmp_path)


def test_an_incomplete_row_of_a_fer2013_csv_is_named(tmp_path: Path) -> None:
    data.write_fer2013_csv(tmp_path / "fer2013.csv", "pixels,Usage,emotion")
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("1 2 3,Training\n")
    with pytest.raises(InvalidInputError, match=r"in every row, but got data row 84 of"):
        read_source("fer2013", tmp_path)


def test_an_unreadable_fer2013_csv_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidding(path: Path, *_: object, **__: object) -> None:  # root may read any file
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    data.write_fer2013_csv(tmp_path / "fer2013.csv", "emotion,pixels,Usage")
    monkeypatch.setattr(Path, "open", forbidding)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        read_source("fer2013", tmp_path)


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.write_images(tmp_path, ("ant", "bee", "cow"), 2, 3, 20, 0)
    scandir = os.scandir

    def forbidding(path: str) -> object:  # root may read any folder
        if Path(path).name in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    closed = {"lost+found"}
    (tmp_path / "lost+found").mkdir()
    assert read_source("folder", tmp_path).class_names == ("ant", "bee", "cow")
    closed.add("cow")
    with pytest.raises(InvalidInputError, match=r"readable folders, .*cow' \(Permission"):
        read_source("folder", tmp_path)


def test_a_locale_that_would_read_names_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.getfilesystemencoding", lambda: "iso8859-1")
    data.write_images(tmp_path, ("ant", "bee"), 2, 3, 20, 0)
    assert read_source("folder", tmp_path).class_names == ("ant", "bee")
    data.write_images(tmp_path, ("\N{GRINNING FACE}",), 2, 3, 20, 0)
    with pytest.raises(InvalidInputError, match=r"a locale in UTF-8.* got 'iso8859-1': set LC_ALL"):
        read_source("folder", tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    data.write_cifar10(tmp_path)
    bad = tmp_path / "train" / "cat" / "0003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    source = read_source("cifar10", tmp_path)
    with pytest.raises(InvalidInputError, match=r"cat/0003\.png"):
        source.train.read(np.arange(len(source.train.labels)), None)


def test_images_of_different_sizes_need_an_image_size(tmp_path: Path) -> None:
    data.write_images(tmp_path, ("ant", "bee"), 2, 3, 20, 0)
    data.save_image(np.zeros((3, 30, 30), np.uint8), tmp_path / "ant" / "big.png")
    source: Source = read_source("folder", tmp_path)
    assert source.train.read(np.arange(5), 8).shape == (5, 3, 8, 8)
    with pytest.raises(InvalidInputError, match="expected one image size, but got"):
        source.train.read(np.arange(5), None)


@pytest.mark.parametrize("names", [("train", "Train"), ("train", "test", "TEST")])
def test_of_two_folders_of_a_split_none_is_dropped(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        data.write_images(tmp_path / name, ("ant", "bee"), 3, 3, 20, 0)
    with pytest.raises(InvalidInputError, match=r"expected one folder for .*'T"):
        read_source("folder", tmp_path)


@pytest.mark.parametrize("layout", [".", "train", "test"])
def test_a_class_without_an_image_is_named_with_what_it_has(layout: str, tmp_path: Path) -> None:
    for name in ["."] if layout == "." else ["train", "test"]:
        data.write_images(tmp_path / name, ("ant", "bee"), 3, 3, 20, 0)
    empty = tmp_path / layout / "cow"
    empty.mkdir()
    with pytest.raises(InvalidInputError, match=r"images in every class's.*cow' with no file: "):
        read_source("folder", tmp_path)
    for name in ("a.heic", "b.heic", "c.txt"):
        (empty / name).touch()
    with pytest.raises(InvalidInputError, match=r"cow' with 2 \.heic, 1 \.txt: add JPEG, "):
        read_source("folder", tmp_path)
    empty.rename(tmp_path / layout / "__MACOSX")  # which no one took for a class
    assert read_source("folder", tmp_path).class_names == ("ant", "bee")


def test_a_class_that_only_the_test_split_has_is_refused(tmp_path: Path) -> None:
    data.write_images(tmp_path / "train", ("ant", "bee"), 2, 3, 20, 0)
    data.write_images(tmp_path / "test", ("ant", "cow"), 2, 3, 20, 0)
    with pytest.raises(InvalidInputError, match=r"classes among .* but got \['cow'\]"):
        read_source("folder", tmp_path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("emotion", "7", "emotion 7"),
        ("emotion", "x", "invalid literal"),
        ("Usage", "Test", "Usage 'Test'"),
        ("pixels", "1 2 3", "3 pixels"),
        ("pixels", " ".join(["256"] * 2304), "2304 pixels"),
    ],
)
def test_a_bad_csv_row_is_named(column: str, value: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "fer2013.csv"
    data.write_fer2013_csv(path, "emotion,pixels,Usage", per_class=1)
    lines = path.read_text().splitlines()
    cells = dict(zip(lines[0].split(","), lines[3].split(","), strict=True)) | {column: value}
    lines[3] = ",".join(cells.values())
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidInputError, match=f"data row 2 of .*{message}"):
        read_source("fer2013", tmp_path)


def test_a_damaged_idx_file_is_named(tmp_path: Path) -> None:
    data.write_idx(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInputError, match=r"t10k-images-idx3-ubyte\.gz"):
        read_source("mnist", tmp_path)
