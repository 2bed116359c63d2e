import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from distcel.data.images import FORMATS, SUFFIXES, image_files
from distcel.data.readers import (
    AGE_CLASSES,
    CIFAR10_CLASSES,
    FER2013_CLASSES,
    read_source,
    source_stamp,
)
from distcel.experiment.errors import InvalidInputError
from tests import made_data as data

Writer = Callable[[Path], None]


def write_train_and_test(folder: Path) -> None:
    data.write_images(folder / "train", ("ant", "bee"), 6, 3, 20, 0)
    data.write_images(folder / "test", ("ant", "bee"), 3, 3, 20, 1)


LAYOUTS: list[tuple[str, str, Writer]] = [
    ("mnist", "IDX, compressed", data.write_idx),
    ("mnist", "IDX in a subfolder", lambda path: data.write_idx(path / "mnist")),
    ("mnist", "torchvision", lambda path: data.write_idx(path / "MNIST" / "raw", 12, False)),
    ("fashion_mnist", "torchvision", lambda p: data.write_idx(p / "FashionMNIST" / "raw")),
    ("fashion_mnist", "Debian's package", lambda path: data.write_idx(path / "fashion-mnist")),
    ("cifar10", "image folders", data.write_cifar10),
    ("cifar10", "image folders in a subfolder", lambda p: data.write_cifar10(p / "cifar10")),
    ("fer2013", "Kaggle folders", data.write_fer2013_folders),
    ("fer2013", "in a subfolder", lambda path: data.write_fer2013_folders(path / "fer2013")),
    (
        "fer2013",
        "fer2013.csv",
        lambda path: data.write_fer2013_csv(path / "fer2013.csv", "emotion,pixels,Usage"),
    ),
    (
        "fer2013",
        "icml_face_data.csv",
        lambda p: data.write_fer2013_csv(p / "icml_face_data.csv", "emotion, Usage, pixels"),
    ),
    ("utkface", "named files", data.write_utkface),
    ("utkface", "UTKFace folder", lambda path: data.write_utkface(path / "UTKFace")),
    ("utkface", "crop_part1 folder", lambda path: data.write_utkface(path / "crop_part1")),
    ("folder", "with test", write_train_and_test),
    (
        "folder",
        "without test",
        lambda path: data.write_images(path, ("ant", "bee"), 6, 3, 20, 0),
    ),
]


def brightest_square(image: NDArray[np.uint8]) -> int:
    """The class that `data.pictures` drew."""
    side = image.shape[-1] // 4
    means = [
        image[0, row * side : (row + 1) * side, column * side : (column + 1) * side].mean()
        for row in range(4)
        for column in range(4)
    ]
    return int(np.argmax(means))


@pytest.mark.parametrize(
    ("dataset", "layout", "write"), LAYOUTS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_layout_is_found_and_its_images_match_their_labels(
    dataset: str, layout: str, write: Writer, tmp_path: Path
) -> None:
    write(tmp_path / "data")
    source = read_source(dataset, tmp_path / "data")
    for pool in filter(None, (source.train, source.test)):
        images = pool.read(np.arange(len(pool.labels)), None)
        assert images.dtype == np.uint8
        assert len(set(pool.sample_ids)) == len(pool.labels) == len(images)
        assert [brightest_square(image) for image in images] == pool.labels.tolist()
        resized = pool.read(np.array([3, 0]), 16)
        assert resized.shape == (2, images.shape[1], 16, 16)
        assert [brightest_square(image) for image in resized] == pool.labels[[3, 0]].tolist()


def test_the_two_layouts_of_fer2013_number_the_emotions_alike(tmp_path: Path) -> None:
    # The folders are alphabetical, the CSV is not: neutral would be 4 in one and 6 in the other.
    data.write_fer2013_folders(tmp_path / "folders")
    data.write_fer2013_csv(tmp_path / "csv" / "fer2013.csv", "emotion,pixels,Usage")
    for name in ("folders", "csv"):
        source = read_source("fer2013", tmp_path / name)
        assert source.class_names == FER2013_CLASSES
        assert source.test is not None
        assert sorted(set(source.test.labels.tolist())) == list(range(7))
        private = ["PrivateTest_" in sample_id for sample_id in source.test.sample_ids]
        assert sum(private) == len(private) / 2


def test_cifar10_of_torchvision_is_read_after_its_md5_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    labels = data.balanced(10, 2)
    images = data.pictures(labels, 3, 32, 0)
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    sums = {}
    for name in [*names, "batches.meta"]:
        content: dict[str, object] = {"data": images.reshape(20, -1), "labels": labels.tolist()}
        if name == "batches.meta":
            content = {"label_names": list(CIFAR10_CLASSES)}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[n, sums[n]] for n, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [[n, sums[n]] for n, _ in CIFAR10.test_list])
    meta = CIFAR10.meta | {"md5": sums["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)

    source = read_source("cifar10", tmp_path)
    assert len(source.train.labels) == 100
    np.testing.assert_array_equal(source.train.read(np.arange(20), None), images)

    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": b"", "labels": []}))
    with pytest.raises(InvalidInputError, match="expected files of torchvision's MD5 sums"):
        read_source("cifar10", tmp_path)


def test_split_folders_may_be_capitalised(tmp_path: Path) -> None:
    data.write_images(tmp_path / "Train", ("ant", "bee"), 3, 3, 20, 0)
    data.write_images(tmp_path / "Test", ("ant", "bee"), 2, 3, 20, 0)
    source = read_source("folder", tmp_path)
    assert source.class_names == ("ant", "bee")
    assert source.test is not None


def test_the_two_folders_of_a_utkface_archive_are_not_mixed(tmp_path: Path) -> None:
    data.write_utkface(tmp_path / "UTKFace", per_class=2)
    data.write_utkface(tmp_path / "UTKFace" / "crop_part1", per_class=2)
    assert len(read_source("utkface", tmp_path).train.labels) == 10


def test_the_stamp_follows_links_notices_changes_and_ignores_results(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    elsewhere = folder / "deep" / "elsewhere"
    data.write_images(elsewhere, ("ant", "bee"), 2, 3, 20, 0)
    (folder / "train").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(elsewhere)
    (folder / "nowhere.png").symlink_to(folder / "missing")
    before = source_stamp(folder)
    assert len(before) == 4
    (folder / "runs").mkdir()
    (folder / "runs" / "train-key.arrow").write_bytes(b"")
    assert source_stamp(folder) == before
    data.save_image(np.ones((3, 20, 20), np.uint8), elsewhere / "ant" / "0000.png")
    assert source_stamp(folder) != before
    (elsewhere / "out").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="links that stay in the data directory"):
        source_stamp(folder)


@pytest.mark.parametrize("by", ["writing in place", "replacing"])
def test_the_stamp_notices_an_edit_that_keeps_size_and_modification_time(
    by: str, tmp_path: Path
) -> None:
    data.write_images(tmp_path, ("ant", "bee"), 2, 3, 20, 0)
    path = tmp_path / "ant" / "0000.png"
    before, status = source_stamp(tmp_path), path.stat()
    edited = path if by == "writing in place" else tmp_path / "new"
    edited.write_bytes(bytes(len(path.read_bytes())))
    os.utime(edited, ns=(status.st_atime_ns, status.st_mtime_ns))
    edited.rename(path)
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert source_stamp(tmp_path) != before


@pytest.mark.parametrize("suffix", [".gif", ".jfif", ".pgm", ".JPE", ".avif", ".jp2"])
def test_images_of_every_suffix_of_a_format_are_read(suffix: str, tmp_path: Path) -> None:
    data.write_images(tmp_path, ("ant", "bee"), 3, 3, 20, 0)
    for path in sorted((tmp_path / "bee").iterdir()):
        mode = "L" if suffix == ".pgm" else "RGB"
        Image.open(path).convert(mode).save(path.with_suffix(suffix))
        path.unlink()
    source = read_source("folder", tmp_path)
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    images = source.train.read(np.arange(6), None)
    assert [brightest_square(image) for image in images] == [0, 0, 0, 1, 1, 1]
    assert len(source_stamp(tmp_path)) == 6


def test_a_suffix_is_read_if_pillow_has_it_for_a_format_that_is_read() -> None:
    registered = Image.registered_extensions().items()
    assert {suffix for suffix, name in registered if name in FORMATS} == SUFFIXES


def test_files_that_are_skipped_are_named_by_suffix_and_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data.write_images(tmp_path, ("ant", "bee"), 3, 3, 20, 0)
    read_source("folder", tmp_path)
    assert caplog.text == ""
    for name in ("ant/a.heic", "ant/b.HEIC", "bee/Makefile", "bee/.DS_Store", "loose.png"):
        (tmp_path / name).touch()
    read_source("folder", tmp_path)
    (record,) = caplog.records
    text = f"skipped 4 files in '{tmp_path}', in no class's folder or of a suffix that is not read"
    assert record.getMessage() == f"{text}: 2 .heic, 1 without a suffix, 1 .png"
    data.write_utkface(tmp_path / "UTKFace", per_class=2)
    caplog.clear()
    (tmp_path / "UTKFace" / "20_0_1_2017.heic").touch()
    read_source("utkface", tmp_path)
    (record,) = caplog.records
    assert record.getMessage().endswith("of a suffix that is not read: 1 .heic")


def test_a_class_is_named_without_what_acts_on_a_terminal(tmp_path: Path) -> None:
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    data.write_images(tmp_path, ("a\nb|\x1b[2J", "caf\xe9\u202e", family), 2, 3, 20, 0)
    source = read_source("folder", tmp_path)
    assert source.class_names == ("a\\nb|\\x1b[2J", "caf\xe9\\u202e", family)
    assert source.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    data.write_images(tmp_path, ("a\\nb|\\x1b[2J",), 2, 3, 20, 0)
    with pytest.raises(InvalidInputError, match="expected one folder a class, but got"):
        read_source("folder", tmp_path)


def test_images_behind_a_link_count_once(tmp_path: Path) -> None:
    data.write_images(tmp_path, ("ant", "bee"), 2, 3, 20, 0)
    data.write_images(tmp_path / "bee" / "more", ("old",), 3, 3, 20, 7)
    (tmp_path / "ant" / "others").symlink_to(tmp_path / "bee" / "more")
    (tmp_path / "ant" / "again").symlink_to(tmp_path / "bee" / "more" / "old")
    (tmp_path / "ant" / "loop").symlink_to(tmp_path / "ant")
    images, _ = image_files(tmp_path / "ant")
    assert len(images) == 2 + 3
    assert image_files(tmp_path / "cow") == ([], [])


def test_ages_fall_into_the_papers_classes(tmp_path: Path) -> None:
    ages = [1, 5, 6, 19, 20, 33, 34, 56, 57, 116]
    for age in ages:
        # The last two fields are sometimes missing from the real names.
        data.save_image(np.zeros((3, 20, 20), np.uint8), tmp_path / f"{age}_1_20170109.jpg")
    data.save_image(np.zeros((3, 20, 20), np.uint8), tmp_path / "portrait.jpg")
    source = read_source("utkface", tmp_path)
    by_id = dict(zip(source.train.sample_ids, source.train.labels.tolist(), strict=True))
    found = [source.class_names[by_id[f"{age}_1_20170109.jpg"]] for age in ages]
    assert found == [name for name in AGE_CLASSES for _ in range(2)]
