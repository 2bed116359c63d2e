"""The true labels of samples, and which sample is in which split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from distcel.data.draw import TEST_SEED, drawn_by_class
from distcel.data.formats import Indices, Labels
from distcel.data.tables import read_table
from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable
from distcel.experiment.types import SPLIT_NAMES, SplitName

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_WHOLE = r"^(-?\d+)\.0+$"


@dataclass(frozen=True)
class Truth:
    """The S samples that are classified, in the order of their file.

    Attributes:
        path: the file.
        ids: the S sample ids.
        class_names: the C labels that occur, sorted; by their values if all are numbers.
        labels_S: the label of each sample, (S,).
        numeric: whether all labels are numbers, so that `1.0` is the label `1`.
        given_split: the indices of each split's samples, if the file says so.
    """

    path: Path
    ids: pa.StringArray
    class_names: tuple[str, ...]
    labels_S: Labels
    numeric: bool
    given_split: Mapping[SplitName, Indices] | None

    def labels_of(self, names: pa.StringArray) -> Labels:
        """The labels of names of classes; -1 where no class has the name."""
        plain = _plain(names) if self.numeric else names
        found = pc.fill_null(pc.index_in(plain, pa.array(self.class_names, pa.string())), -1)
        labels: Labels = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return labels

    def indices_of(self, ids: pa.StringArray) -> Indices:
        """The places of sample ids in the order of the file; -1 where it has no such id."""
        found = pc.fill_null(pc.index_in(ids, self.ids), -1)
        indices: Indices = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return indices


def read_truth(path: Path) -> Truth:
    """Read a table with the columns sample_id, label and, if it has it, split.

    Raises:
        InvalidInputError: it is no such table, a row has no label, there are fewer than two
            classes, or a split is of another name than train, valid and test or has no samples.
    """
    table = read_table(path)
    known = "label" in table.names and set(table.names) <= {"label", "split"}
    rule = f"the columns label and, if splits are given, split beside sample_id in {str(path)!r}"
    require(known, rule, table.names[:10], "name them so, and remove others")
    text = table.text("label")
    if n_empty := pc.sum(pc.equal(text, "")).as_py():
        found = f"{n_empty} rows without one in {str(path)!r}"
        raise invalid("a label in every row", found, "add them, or remove the rows")
    found_names = pc.unique(text).to_pylist()
    numeric = are_numbers(found_names)
    if numeric:
        text = _plain(text)
        found_names = sorted(pc.unique(text).to_pylist(), key=lambda name: (float(name), name))
    class_names = tuple(found_names) if numeric else tuple(sorted(found_names))
    for name in class_names:
        require(printable(name) == name, "printable labels", name, f"rename it in {str(path)!r}")
    rule = f"at least two classes in {str(path)!r}"
    require(len(class_names) >= 2, rule, list(class_names), "add samples of another class")
    labels_S = pc.index_in(text, pa.array(class_names, pa.string())).to_numpy().astype(np.int64)
    given = _given_split(table.text("split"), path) if "split" in table.names else None
    return Truth(path, table.ids, class_names, labels_S, numeric, given)


def are_numbers(class_names: Sequence[str]) -> bool:
    """Whether all labels are numbers, so that `1.0` is the label `1`."""
    return all(_NUMBER.fullmatch(name) for name in class_names)


def split_samples(
    truth: Truth, shares: tuple[float, float, float], seed: int
) -> Mapping[SplitName, Indices]:
    """The indices of each split's samples, in the order of the file.

    They are those of the file's column split. Without one, test is drawn by class, the same for
    every seed, and valid by class from the rest with the seed, as from data sets of images.

    Args:
        truth: the samples.
        shares: the shares of train, valid and test, which sum to 1.
        seed: seeds the draw of valid.

    Raises:
        InvalidInputError: the shares are no shares, or a split has no sample of some class.
    """
    splits = truth.given_split or _drawn_split(truth, shares, seed)
    for name, indices_S in splits.items():
        counts_C = np.bincount(truth.labels_S[indices_S], minlength=len(truth.class_names))
        if not counts_C.all():
            missing = truth.class_names[int(counts_C.argmin())]
            found = f"no {name} samples of {missing!r} in {str(truth.path)!r}"
            raise invalid("samples of every class in every split", found, "add samples of it")
    return splits


def _drawn_split(
    truth: Truth, shares: tuple[float, float, float], seed: int
) -> dict[SplitName, Indices]:
    whole = len(shares) == 3 and all(share > 0 for share in shares) and abs(sum(shares) - 1) < 1e-6
    rule = "shares of train, valid and test above 0 that sum to 1"
    require(whole, rule, shares, "give three such shares")
    counts_C = np.bincount(truth.labels_S)
    fewest = int(counts_C.argmin())
    rule = f"at least {len(SPLIT_NAMES)} samples of every class, one for each split"
    found = f"{counts_C[fewest]} of {truth.class_names[fewest]!r} in {str(truth.path)!r}"
    if counts_C[fewest] < len(SPLIT_NAMES):
        raise invalid(rule, found, "add samples of it, or leave the class out")
    n_valid, n_test = (round(share * len(truth.labels_S)) for share in shares[1:])
    rest, test = drawn_by_class(truth.labels_S, n_test, TEST_SEED)
    train, valid = drawn_by_class(truth.labels_S[rest], n_valid, seed)
    return {"train": rest[train], "valid": rest[valid], "test": test}


def _given_split(names: pa.StringArray, path: Path) -> dict[SplitName, Indices]:
    others = [name for name in pc.unique(names).to_pylist() if name not in SPLIT_NAMES]
    rule = f"train, valid or test as the split of every row of {str(path)!r}"
    require(not others, rule, others[:3], "rename them, or remove the column")
    array_S: NDArray[np.object_] = names.to_numpy(zero_copy_only=False)
    splits: dict[SplitName, Indices] = {
        name: np.flatnonzero(array_S == name).astype(np.int64) for name in SPLIT_NAMES
    }
    for name, indices_S in splits.items():
        rule = f"samples of train, valid and test in the column split of {str(path)!r}"
        require(len(indices_S) > 0, rule, f"none of {name}", "add some, or remove the column")
    return splits


def _plain(names: pa.StringArray) -> pa.StringArray:
    """Whole numbers without a decimal point: pandas writes the label 1 of some columns as 1.0."""
    return pc.replace_substring_regex(names, _WHOLE, r"\1")
