import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from distcel.data import draw
from distcel.data.draw import SplitOverlapError, draw_splits
from distcel.data.formats import Pool, Source
from distcel.data.readers import CIFAR10_CLASSES
from distcel.data.sample_table import read_samples
from distcel.data.splits import Splits, load_splits
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES
from distcel.storage.provenance import source_digest
from tests import made_data as data

DIGITS = load_experiment("digits", "quick")


def ids(splits: Splits, name: str) -> list[str]:
    found: list[str] = splits[name].sample_ids.to_pylist()  # type: ignore[index]
    return found


def test_splits_are_disjoint_complete_and_stratified(tmp_path: Path) -> None:
    splits = load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    everything = [sample_id for name in SPLIT_NAMES for sample_id in ids(splits, name)]
    assert len(everything) == len(set(everything)) == 1797
    assert [len(splits[name].labels_S) for name in SPLIT_NAMES] == [1149, 288, 360]
    shares = [
        np.bincount(splits[name].labels_S) / len(splits[name].labels_S) for name in SPLIT_NAMES
    ]
    for share in shares[1:]:
        np.testing.assert_allclose(share, shares[0], atol=0.01)


def test_the_seed_moves_the_valid_split_and_never_the_test_split(tmp_path: Path) -> None:
    first, again, other = (
        load_splits(DIGITS, tmp_path, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1))
    )
    assert ids(first, "valid") == ids(again, "valid") != ids(other, "valid")
    assert ids(first, "test") == ids(again, "test") == ids(other, "test")
    assert first.digest == again.digest != other.digest


def test_a_test_split_that_comes_with_the_data_is_used_as_it_is(tmp_path: Path) -> None:
    data.write_cifar10(tmp_path / "data")
    experiment = load_experiment("cifar10", "paper")
    splits = load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)
    assert all(sample_id.startswith("test/") for sample_id in ids(splits, "test"))
    assert [len(splits[name].labels_S) for name in SPLIT_NAMES] == [108, 12, 40]
    assert splits.image_shape == (3, 32, 32)


def test_images_are_decoded_once_and_again_when_the_data_change(tmp_path: Path) -> None:
    data.write_utkface(tmp_path / "data")
    experiment = load_experiment("utkface", "quick")

    def load() -> tuple[Splits, set[Path]]:
        splits = load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)
        return splits, set((tmp_path / "cache").glob("*.arrow"))

    first, files = load()
    times = {path: path.stat().st_mtime_ns for path in files}
    again, files = load()
    assert {path: path.stat().st_mtime_ns for path in files} == times
    assert again.digest == first.digest
    image = next((tmp_path / "data").glob("80_*.jpg"))
    data.save_image(np.zeros((3, 48, 48), np.uint8), image)
    changed, files = load()
    assert len(files) == 6
    assert changed.digest != first.digest


@pytest.mark.parametrize(
    "changes",
    [{"image_size": 12}, {"valid_share": 0.3}, {"test_share": 0.4}, {"max_samples": 300}, {}],
    ids=str,
)
def test_other_sizes_or_shares_do_not_use_the_kept_splits(
    tmp_path: Path, changes: dict[str, float]
) -> None:
    before = load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    other = replace(DIGITS, **changes)  # type: ignore[arg-type]
    after = load_splits(other, tmp_path, tmp_path / "cache", seed=0 if changes else 1)
    assert after.digest != before.digest
    assert load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0).digest == before.digest


@pytest.mark.parametrize("place", ["distcel.data.splits.CACHE_VERSION", "numpy.__version__"])
def test_images_are_decoded_again_by_another_version(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    monkeypatch.setattr(place, "2.99")
    load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    assert len(list((tmp_path / "cache").glob("train-*.arrow"))) == 2


def test_a_file_of_images_names_the_code_that_wrote_it(tmp_path: Path) -> None:
    load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    for path in (tmp_path / "cache").glob("*.arrow"):
        assert read_samples(path, "image").metadata["source_digest"] == source_digest()


def test_a_damaged_file_of_images_is_decoded_again(tmp_path: Path) -> None:
    first = load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    expected = first["valid"].images_SCHW.copy()
    del first
    (path,) = (tmp_path / "cache").glob("valid-*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.unlink()
    path.write_bytes(content)
    again = load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)
    np.testing.assert_array_equal(again["valid"].images_SCHW, expected)


def test_a_sample_in_two_splits_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = data.balanced(2, 10)
    pool = Pool(
        tuple(f"photo {i}" for i in range(20)),
        labels,
        lambda chosen, _: np.zeros((len(chosen), 1, 16, 16), np.uint8),
    )
    leaking = Source(("a", "b"), pool, replace(pool, sample_ids=("photo 3", *pool.sample_ids[1:])))
    monkeypatch.setattr(draw, "read_source", lambda *_: leaking)
    with pytest.raises(SplitOverlapError, match=r"sample photo \d+ is in \w+ and in test"):
        load_splits(DIGITS, tmp_path, tmp_path / "cache", seed=0)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    data.write_images(tmp_path / "data", ("ant",), 30, 3, 20, 0)
    experiment = load_experiment("folder", "quick")
    with pytest.raises(InvalidInputError, match=r"expected at least two classes, but got \['ant'"):
        load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)


def test_a_class_without_samples_is_named(tmp_path: Path) -> None:
    data.write_fer2013_folders(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "train" / "disgust")
    experiment = load_experiment("fer2013", "quick")
    with pytest.raises(InvalidInputError, match="no train samples of 'disgust'"):
        load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)


def test_splits_with_images_of_other_sizes_are_refused(tmp_path: Path) -> None:
    for split, side in (("train", 32), ("test", 20)):
        data.write_images(tmp_path / "data" / split, CIFAR10_CLASSES, 12, 3, side, 0)
    experiment = load_experiment("cifar10", "quick")
    with pytest.raises(InvalidInputError, match=r"one shape in all splits .*'test': \(3, 20, 20\)"):
        load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)


def test_too_few_samples_of_a_class_are_refused(tmp_path: Path) -> None:
    data.write_images(tmp_path / "data", ("ant", "bee"), 1, 3, 20, 0)
    experiment = load_experiment("folder", "quick")
    with pytest.raises(InvalidInputError, match=r"enough samples of every class .*\[1, 1\]"):
        load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)


@pytest.mark.parametrize("per_class", [99, 100, 101, 102])
def test_max_samples_just_below_the_number_there_is(tmp_path: Path, per_class: int) -> None:
    data.write_images(tmp_path / "data", ("ant", "bee", "cow"), per_class, 1, 16, 0)
    experiment = replace(load_experiment("folder", "quick"), max_samples=208)
    splits = load_splits(experiment, tmp_path / "data", tmp_path / "cache", seed=0)
    assert 205 <= len(splits["train"].labels_S) <= 213


def test_max_samples_keeps_the_shares_of_the_classes(tmp_path: Path) -> None:
    experiment = replace(DIGITS, max_samples=100)
    splits = load_splits(experiment, tmp_path, tmp_path / "cache", seed=0)
    for name in SPLIT_NAMES:
        assert len(splits[name].labels_S) == 100
        assert set(np.bincount(splits[name].labels_S)) <= {9, 10, 11}


def test_channel_statistics_are_those_of_the_train_split(tmp_path: Path) -> None:
    data.write_cifar10(tmp_path / "data")
    splits = load_splits(
        load_experiment("cifar10", "paper"), tmp_path / "data", tmp_path / "cache", seed=0
    )
    mean, std = splits.channel_statistics()
    images = splits["train"].images_SCHW / 255
    np.testing.assert_allclose(mean, images.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, images.std((0, 2, 3)), rtol=1e-6)


@pytest.fixture
def unpacked(shared_data: Path) -> Iterator[Callable[[str], Path]]:
    """Unpacks real data; where memory has room, 100,000 files are neither written nor removed."""
    memory = Path("/dev/shm")
    fits = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 2**30
    with TemporaryDirectory(dir=memory if fits else None) as folder:

        def unpack(name: str) -> Path:
            archive = shared_data / f"{name}.tar.xz"
            subprocess.run(["tar", "-xJf", archive, "-C", folder], check=True)
            return Path(folder)

        yield unpack


@pytest.mark.parametrize(
    ("dataset", "archive", "sizes"),
    [
        ("mnist", None, {"train": 54000, "valid": 6000, "test": 10000}),
        ("cifar10", "cifar10", {"train": 45000, "valid": 5000, "test": 10000}),
        ("fer2013", "fer2013", {"train": 25838, "valid": 2871, "test": 7178}),
        ("utkface", "utkface", {"train": 7041, "valid": 783, "test": 1956}),
    ],
)
def test_the_real_data_have_their_published_sizes(
    dataset: str,
    archive: str | None,
    sizes: dict[str, int],
    shared_data: Path,
    unpacked: Callable[[str], Path],
) -> None:
    folder = unpacked(archive) if archive else shared_data
    experiment = load_experiment(dataset, "paper")
    class_names, pools = draw_splits(experiment, folder, seed=0)
    assert {name: len(pool.labels) for name, pool in pools.items()} == sizes
    assert len(class_names) == {"mnist": 10, "cifar10": 10, "fer2013": 7, "utkface": 5}[dataset]
    assert pools["test"].read(np.arange(3), 24).shape[2:] == (24, 24)
