"""What a selection net sees of samples that were predicted elsewhere: images, or numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from distcel.core.priced_ensemble import answer_features
from distcel.data.arrays import load_array
from distcel.data.images import Images, decode_images, image_files, resize_images
from distcel.data.splits import Probabilities
from distcel.data.tables import TABLE_SUFFIXES, read_table
from distcel.data.truth import Truth
from distcel.experiment.errors import invalid, require

Numbers = NDArray[np.float32]


def require_features(path: Path | None, always: Sequence[str]) -> None:
    """Check that the selection net will see something, and not images beside numbers.

    Raises:
        InvalidInputError: there are neither features nor always-asked predictors, or a folder of
            images and always-asked predictors.
    """
    if path is None and not always:
        rule, found = "something that the selection net sees", "neither features nor always"
        raise invalid(rule, found, "give features, or predictors that are always asked")
    if path is not None and path.is_dir():
        _require_no_answers(len(always))


def read_features(
    path: Path | None, truth: Truth, image_size: int | None, always_SNC: Probabilities
) -> Images | Numbers:
    """What the selection net sees: uint8 (S, channels, height, width), or float32 (S, F).

    Args:
        path: a folder of images whose path or name without suffix is the sample id, an array with
            the samples in the order of the truth, or a table with ids and columns of numbers; None
            if the answers are all.
        truth: the samples.
        image_size: the side that images are resized to; None keeps it.
        always_SNC: the answers of the always-asked predictors, which are appended to numbers.

    Raises:
        InvalidInputError: something is missing, unreadable, of another shape or no number, or there
            are images and always-asked predictors.
    """
    answers = answers_as_features(always_SNC)
    if path is None:
        return answers
    seen = _read_file(path, truth, image_size)
    if seen.ndim == 4:
        _require_no_answers(always_SNC.shape[1])
        return seen
    return np.concatenate([seen, answers], axis=1, dtype=np.float32)


def _require_no_answers(n_always: int) -> None:
    rule, remedy = "numbers as features beside always-asked predictors", "leave out one of the two"
    if n_always:
        raise invalid(rule, "images", remedy)


def _read_file(path: Path, truth: Truth, image_size: int | None) -> Images | Numbers:
    if path.is_dir():
        return _images_of_folder(path, truth, image_size)
    suffixes = (".npy", *TABLE_SUFFIXES)
    rule = f"features in a folder of images or a file of a suffix in {', '.join(suffixes)}"
    require(path.suffix.lower() in suffixes, rule, str(path), "give one of these")
    if path.suffix.lower() != ".npy":
        return _numbers_of_table(path, truth)
    array, _ = load_array(path)
    are_images = array.ndim == 4 and array.dtype == np.uint8 and array.shape[1] in (1, 3)
    n = len(truth.ids)
    fits = array.shape[:1] == (n,) and array.size > 0 and (are_images or array.ndim == 2)
    rule = f"numbers ({n}, features) or uint8 images ({n}, 1 or 3, height, width) in {str(path)!r}"
    require(fits, rule, f"{array.dtype} {array.shape}", "save the array so")
    if are_images:
        return resize_images(array, image_size)
    with np.errstate(over="ignore"):  # infinite ones are refused
        numbers_SF: Numbers = array.astype(np.float32)
    _require_finite(numbers_SF, truth.ids, path)
    return numbers_SF


def answers_as_features(probs_SNC: Probabilities) -> Numbers:
    """The answers of N predictors as numbers, (S, N * 3 * C).

    They are, for each predictor: 1 for its most probable class and 0 for the others (C), its
    probabilities p (C), and log(max(p, 1e-3)) / 3 (C); all zeros where it did not answer.
    """
    numbers: Numbers = answer_features(torch.tensor(probs_SNC)).flatten(1).numpy()
    return numbers


def _images_of_folder(folder: Path, truth: Truth, image_size: int | None) -> Images:
    by_path: dict[str, Path] = {}
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for file in image_files(folder)[0]:
        by_path[file.relative_to(folder).as_posix()] = file
        by_stem[file.stem].append(file)
    ids = truth.ids.to_pylist()
    found = [[by_path[i]] if i in by_path else by_stem.get(i, []) for i in ids]
    _require_all([i for i, files in zip(ids, found, strict=True) if not files], folder)
    several = [i for i, files in zip(ids, found, strict=True) if len(files) > 1]
    rule = f"one image for each sample id in {str(folder)!r}"
    remedy = "give paths in the folder as ids, or remove the other images"
    require(not several, rule, f"several for {several[:3]}", remedy)
    return decode_images([files[0] for files in found], "RGB", image_size)


def _numbers_of_table(path: Path, truth: Truth) -> Numbers:
    table = read_table(path)
    names = table.names
    rule = f"columns of numbers beside sample_id in {str(path)!r}"
    require(len(names) > 0, rule, names, "add what the selection net is to see")
    rows_S = np.array(_rows(table.ids, truth, path), np.int64)
    with np.errstate(over="ignore"):  # infinite ones are refused
        columns = [table.numbers(name, np.float32)[rows_S] for name in names]
    numbers_SF: Numbers = np.stack(columns, axis=1)
    _require_finite(numbers_SF, truth.ids, path)
    return numbers_SF


def _rows(ids: pa.StringArray, truth: Truth, path: Path) -> list[int]:
    row_of = {sample_id: row for row, sample_id in enumerate(ids.to_pylist())}
    wanted = truth.ids.to_pylist()
    _require_all([i for i in wanted if i not in row_of], path)
    return [row_of[i] for i in wanted]


def _require_all(missing: list[str], path: Path) -> None:
    if missing:
        found = f"none for {len(missing)} in {str(path)!r}, the first {missing[0]!r}"
        raise invalid("features of every sample of the truth", found, "add them")


def _require_finite(numbers_SF: Numbers, ids: pa.StringArray, path: Path) -> None:
    wrong_S = ~np.isfinite(numbers_SF).all(1)
    if n_wrong := int(wrong_S.sum()):
        first = ids[int(wrong_S.argmax())].as_py()
        found = f"others for {n_wrong} samples in {str(path)!r}, the first {first!r}"
        raise invalid("finite numbers as features", found, "fill them in, or leave the column out")
