"""What predictors answered: a file each, or one array of all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from distcel.data.arrays import ARRAY_SUFFIXES, load_array
from distcel.data.splits import Probabilities
from distcel.data.tables import TABLE_SUFFIXES, Table, read_table
from distcel.data.truth import Truth
from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

_TOLERANCE = 1e-3  # of the sum of a row of probabilities
_LABEL_COLUMNS = {"label", "confidence"}


@dataclass(frozen=True)
class Predictors:
    """The answers of N predictors to all S samples.

    Attributes:
        names: the names of the predictors.
        probs_SNC: their probabilities, (S, N, C); zeros where a predictor did not answer.
        n_raised: how many confidences were at most 1/C. All of such a predictor are raised, so that
            the label is the most probable class.
        never_given: the labels that no predictor gives, where all give labels.
        raised: the predictors whose confidences are raised.
    """

    names: tuple[str, ...]
    probs_SNC: Probabilities
    n_raised: int
    never_given: tuple[str, ...] = ()
    raised: tuple[str, ...] = ()


def read_predictors(path: Path, truth: Truth, others: Collection[Path]) -> Predictors:
    """Read a folder with a file a predictor, or an array of shape (S, N, C).

    Args:
        path: the folder, or the array.
        truth: the samples and classes.
        others: files that are no predictor's where they lie in the folder.

    Raises:
        InvalidInputError: something is missing, unreadable or of no known kind, does not match the
            truth, or is no probability; there are fewer than two predictors.
    """
    paths = predictor_files(path, {other.resolve() for other in others})
    if len(paths) == 1 and paths[0].suffix.lower() in ARRAY_SUFFIXES:
        read = read_array(paths[0], truth)
    else:
        read = read_files(paths, truth)
    rule = f"every label of {str(truth.path)!r} from at least one predictor"
    remedy = "name the labels alike, or leave out the samples of these classes"
    require(not read.never_given, rule, f"none that says {list(read.never_given[:3])}", remedy)
    for name in read.names:
        require(printable(name) == name, "printable names of predictors", name, "rename it")
    rule, remedy = "at least two predictors", "give the answers of another one"
    require(len(read.names) >= 2, rule, list(read.names), remedy)
    return read


def predictor_files(path: Path, others: Collection[Path]) -> list[Path]:
    """The files of the folder but for `others`, or the array; raises InvalidInputError."""
    if not path.is_dir():
        known = path.is_file() and path.suffix.lower() in ARRAY_SUFFIXES
        rule = "a folder with a file for each predictor, or one .npy or .npz file"
        require(known, rule, str(path), "give such a folder or file")
        return [path]
    try:
        found = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError as error:
        found_text = f"{str(path)!r} ({error.strerror})"
        raise invalid("a readable folder", found_text, "change its permissions") from None
    files = [child for child in found if child.resolve() not in others]
    alone = len(files) == 1
    known_suffixes = (*TABLE_SUFFIXES, *(ARRAY_SUFFIXES if alone else ()))
    for file in files:
        known = file.is_file() and file.suffix.lower() in known_suffixes
        rule = f"one {' or '.join(ARRAY_SUFFIXES)} file, or tables ({', '.join(TABLE_SUFFIXES)})"
        remedy = "remove it from the folder, or give it by its own flag if it is no predictor's"
        require(known, rule, str(file), remedy)
    require(len(files) > 0, "files of predictors in the folder", str(path), "add them")
    stems = [file.stem for file in files]
    twice = [file.name for file in files if stems.count(file.stem) > 1]
    require(not twice, "one file for each predictor", twice[:3], "rename or remove the others")
    return files


def read_files(
    paths: Sequence[Path], truth: Truth, raised: Collection[str] | None = None
) -> Predictors:
    """Read a table a predictor; raises InvalidInputError.

    Args:
        paths: the tables.
        truth: the samples and classes.
        raised: the predictors whose confidences are raised, as they were when a selection net was
            trained; None for those that have one of at most 1/C here.
    """
    shape = (len(truth.ids), len(paths), len(truth.class_names))
    probs_SNC, n_raised = np.zeros(shape, np.float32), 0
    given_C, all_labels = np.zeros(shape[-1], np.bool_), True
    found_raised: list[str] = []
    for i, path in enumerate(paths):
        table = read_table(path)
        rows_R = _rows_in_truth(table, truth)
        if set(table.names) == _LABEL_COLUMNS:
            labels_R, confidence_R = _labels_and_confidences(table, truth)
            scaled = None if raised is None else path.stem in raised
            probs_RC, n_low = _spread(labels_R, confidence_R, shape[-1], scaled)
            given_C[labels_R[labels_R >= 0]] = True
            n_raised += n_low
            if scaled or (scaled is None and n_low):
                found_raised.append(path.stem)
        else:
            probs_RC = _class_columns(table, truth)
            all_labels = False
        probs_SNC[rows_R, i] = probs_RC
    never = [name for name, given in zip(truth.class_names, given_C, strict=True) if not given]
    names = tuple(path.stem for path in paths)
    never_given = tuple(never) if all_labels else ()
    return Predictors(names, probs_SNC, n_raised, never_given, tuple(found_raised))


def _rows_in_truth(table: Table, truth: Truth) -> NDArray[np.int64]:
    rows_R = truth.indices_of(table.ids)
    if n_unknown := int((rows_R < 0).sum()):
        first = table.ids[int((rows_R < 0).argmax())].as_py()
        found = f"{n_unknown} others in {str(table.path)!r}, the first {first!r}"
        rule = f"sample ids of {str(truth.path)!r}"
        raise invalid(rule, found, "add them to the truth, or remove their rows")
    return rows_R


def _labels_and_confidences(
    table: Table, truth: Truth
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The label (-1: not answered) and confidence of each row, (R,)."""
    names, confidence_R = table.text("label"), table.numbers("confidence", np.float64)
    labels_R = truth.labels_of(names)
    absent = pc.is_in(pc.utf8_lower(names), pa.array(["", "nan"])).to_numpy(zero_copy_only=False)
    named_R = ~absent | (labels_R >= 0)

    def refuse(wrong_R: NDArray[np.bool_], rule: str, remedy: str) -> None:
        if n_wrong := int(wrong_R.sum()):
            row = int(wrong_R.argmax())
            sample = f"{table.ids[row].as_py()!r} in {str(table.path)!r}"
            what = f"{names[row].as_py()!r} with {confidence_R[row]:g} for {sample}"
            raise invalid(rule, f"{what} ({n_wrong} such rows)", remedy)

    rule, remedy = "a label and a confidence, or neither", "add what is missing, or empty both"
    refuse(named_R == np.isnan(confidence_R), rule, remedy)
    rule = f"labels of {str(truth.path)!r}"
    refuse(named_R & (labels_R < 0), rule, "name them as there, or remove the rows")
    outside_R = named_R & ~((confidence_R >= 0) & (confidence_R <= 1))
    refuse(outside_R, "confidences from 0 to 1", "divide them by their maximum, or remove the rows")
    return labels_R, confidence_R


def _spread(
    labels_R: NDArray[np.int64],
    confidence_R: NDArray[np.float64],
    n_classes: int,
    scaled: bool | None,
) -> tuple[Probabilities, int]:
    """Rows of probabilities, (R, C), and how many confidences were at most 1 / C.

    The label has the confidence q, and every other class (1 - q) / (C - 1). With q of at most 1 / C
    another class would be as probable. If a predictor has such confidences, they are on another
    scale: all of its q become 1 / C + (1 - 1 / C) q, which keeps their order. `scaled` says whether
    they are; None if these confidences decide it.
    """
    answered_R, least = labels_R >= 0, _least_confidence(n_classes)
    given_R = np.where(answered_R, confidence_R, 1)
    low_R = (given_R <= 1 / n_classes) | (given_R.astype(np.float32) < least)
    if low_R.any() if scaled is None else scaled:
        given_R = 1 / n_classes + (1 - 1 / n_classes) * given_R
    q_R = np.maximum(given_R.astype(np.float32), least)
    rest_R = _rest(q_R, n_classes)
    probs_RC = np.repeat(rest_R[:, None], n_classes, axis=1)
    probs_RC[np.arange(len(q_R)), labels_R] = q_R
    probs_RC[~answered_R] = 0
    return probs_RC, int(low_R.sum())


def _least_confidence(n_classes: int) -> np.float32:
    q = np.float32(1 / n_classes)
    while float(q) <= 1 / n_classes or _rest(q, n_classes) >= q:
        q = np.nextafter(q, np.float32(1))
    return q


def _rest(q: Any, n_classes: int) -> Any:
    return ((1 - np.float64(q)) / (n_classes - 1)).astype(np.float32)


def _class_columns(table: Table, truth: Truth) -> Probabilities:
    """The rows of a table with one column a class, (R, C); zeros where all cells are empty."""
    labels = truth.labels_of(pa.array(table.names, pa.string())).tolist()
    columns = dict(zip(labels, table.names, strict=True))
    known = -1 not in columns and len(columns) == len(labels)
    where, in_truth = repr(str(table.path)), repr(str(truth.path))
    rule = f"columns label and confidence, or one for each class, beside sample_id in {where}"
    remedy = f"name the columns as the labels in {in_truth}, and remove others"
    require(known, rule, table.names[:10], remedy)
    missing = [name for c, name in enumerate(truth.class_names) if c not in columns]
    rule = f"a column for every class of {in_truth} in {where}"
    require(not missing, rule, f"none for {missing[:3]}", "add it, with 0 where it is never given")
    ordered = [table.numbers(columns[c], np.float32) for c in range(len(labels))]
    return checked_rows(np.stack(ordered, axis=1), table.ids, str(table.path))


def checked_rows(probs_RC: Probabilities, ids: pa.StringArray, source: str) -> Probabilities:
    """The rows (R, C) as they are, with zeros where all cells are NaN.

    Raises:
        InvalidInputError: another row is no distribution: finite, not negative, with the sum 1.
    """
    empty_R: NDArray[np.bool_] = np.all(np.isnan(probs_RC), axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite ones are refused below
        total_R = probs_RC.sum(1, dtype=np.float64)
        is_one_R: NDArray[np.bool_] = np.less_equal(np.abs(total_R - 1), _TOLERANCE)
    wrong_R = ~empty_R & ~(is_one_R & (probs_RC >= 0).all(1))
    if n_wrong := int(wrong_R.sum()):
        row = int(wrong_R.argmax())
        sample = f"{ids[row].as_py()!r} in {source!r} ({n_wrong} such rows)"
        found = f"a least of {probs_RC[row].min():g} and a sum of {total_R[row]:g} for {sample}"
        rule = f"probabilities of at least 0 that sum to 1 within {_TOLERANCE:g}"
        raise invalid(rule, found, "normalise the rows, or empty those that were not answered")
    return np.where(empty_R[:, None], np.float32(0), probs_RC)


def read_array(path: Path, truth: Truth) -> Predictors:
    """Read an array of shape (S, N, C); raises InvalidInputError."""
    array, names = load_array(path)
    n_samples, n_classes = len(truth.ids), len(truth.class_names)
    fits = array.ndim == 3 and (array.shape[0], array.shape[2]) == (n_samples, n_classes)
    shape = f"({n_samples}, predictors, {n_classes})"
    rule = f"an array of shape {shape} in {str(path)!r}"
    remedy = "give a sample's rows in the order of the truth, and the classes sorted"
    require(fits, rule, array.shape, remedy)
    n = array.shape[1]
    names = tuple(f"p{i}" for i in range(n)) if names is None else names
    rule = f"{n} different names in {str(path)!r}"
    require(len(names) == n == len(set(names)), rule, list(names[:10]), "mend the array `names`")
    probs_SNC = np.empty(array.shape, np.float32)
    for i, name in enumerate(names):
        with np.errstate(over="ignore"):
            probs_SC = array[:, i].astype(np.float32)
        probs_SC[(probs_SC == 0).all(1)] = np.nan
        probs_SNC[:, i] = checked_rows(probs_SC, truth.ids, f"{name} of {path}")
    return Predictors(names, probs_SNC, 0)
