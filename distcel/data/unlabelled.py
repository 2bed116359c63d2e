"""Answers of known predictors to samples whose labels are not known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.arrays import ARRAY_SUFFIXES, load_array
from distcel.data.features import read_features
from distcel.data.predictors import predictor_files, read_array, read_files
from distcel.data.splits import Probabilities
from distcel.data.tables import read_table
from distcel.data.truth import Truth, are_numbers
from distcel.experiment.errors import invalid, require


def read_unlabelled(
    run: Path,
    predictions: Path,
    names: Sequence[str],
    class_names: Sequence[str],
    raised: Sequence[str],
    features: Path | None,
    image_size: int | None,
) -> tuple[list[str], Probabilities, NDArray[Any] | None]:
    """Read what these predictors answered, and what a selection net sees beside it.

    Args:
        run: whose selection net the answers are for; errors name it.
        predictions: a folder with a table a predictor, or an array of shape (S, N, C), whose
            samples have their numbers from 0 as ids; a predictor that is missing has no answers.
        names: the N predictors.
        class_names: the C classes.
        raised: the predictors whose confidences were raised in training.
        features: as `read_features` takes them; None for nothing.
        image_size: side that images are resized to; None keeps their own.

    Returns:
        list: the S sample ids, in the order of the first table that has them.
        array: the answers, (S, N, C); zeros where there is none.
        array: the features, (S, ...); None for nothing.

    Raises:
        InvalidInputError: something is missing, unreadable or of another predictor or class.
    """
    paths = predictor_files(predictions, [features.resolve()] if features else [])
    is_array = paths[0].suffix.lower() in ARRAY_SUFFIXES
    if not is_array:
        _require_known([path.stem for path in paths], names)
    ids = _ids_of_array(paths[0]) if is_array else _ids_of_tables(paths)
    if not ids:
        raise invalid("answers to at least one sample", f"none in {str(predictions)!r}", "add some")
    sample_ids, labels_S = pa.array(ids, pa.string()), np.zeros(len(ids), np.int64)
    numeric = are_numbers(class_names)
    truth = Truth(run, sample_ids, tuple(class_names), labels_S, numeric, None)
    read = read_array(paths[0], truth) if is_array else read_files(paths, truth, raised)
    _require_known(read.names, names)
    probs_SNC = np.zeros((len(ids), len(names), len(class_names)), np.float32)
    for i, name in enumerate(read.names):
        probs_SNC[:, names.index(name)] = read.probs_SNC[:, i]
    if features is None:
        return ids, probs_SNC, None
    return ids, probs_SNC, read_features(features, truth, image_size, probs_SNC[:, :0])


def _require_known(given: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in given if name not in names]
    rule, remedy = f"predictors among {list(names)}", "leave it out, or name it as it was named"
    require(not unknown, rule, unknown[:3], remedy)


def _ids_of_array(path: Path) -> list[str]:
    array, _ = load_array(path)
    return [str(i) for i in range(len(array))] if array.ndim else []


def _ids_of_tables(paths: Sequence[Path]) -> list[str]:
    return list(dict.fromkeys(i for path in paths for i in read_table(path).ids.to_pylist()))
