"""Answers of known predictors to samples whose labels are not known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.arrays import ARRAY_SUFFIXES
from distcel.data.features import read_features
from distcel.data.predictors import predictor_files, read_files
from distcel.data.splits import Probabilities
from distcel.data.tables import read_table
from distcel.data.truth import Truth, are_numbers
from distcel.experiment.errors import invalid, require


def read_unlabelled(
    predictions: Path,
    names: Sequence[str],
    class_names: Sequence[str],
    raised: Sequence[str],
    features: Path | None,
    image_size: int | None,
) -> tuple[list[str], Probabilities, NDArray[Any] | None]:
    """Read what these predictors answered, and what a selection net sees beside it.

    Args:
        predictions: a folder with a table a predictor; one without a table has no answers.
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
    for path in paths:
        known = path.stem in names and path.suffix.lower() not in ARRAY_SUFFIXES
        rule = f"tables of predictors among {list(names)}"
        require(known, rule, str(path), "remove it, or name it as the predictor was named")
    ids = list(dict.fromkeys(i for path in paths for i in read_table(path).ids.to_pylist()))
    if not ids:
        raise invalid("answers to at least one sample", f"none in {str(predictions)!r}", "add some")
    sample_ids, labels_S = pa.array(ids, pa.string()), np.zeros(len(ids), np.int64)
    numeric = are_numbers(class_names)
    truth = Truth(predictions, sample_ids, tuple(class_names), labels_S, numeric, None)
    read = read_files(paths, truth, raised)
    probs_SNC = np.zeros((len(ids), len(names), len(class_names)), np.float32)
    for i, name in enumerate(read.names):
        probs_SNC[:, names.index(name)] = read.probs_SNC[:, i]
    if features is None:
        return ids, probs_SNC, None
    return ids, probs_SNC, read_features(features, truth, image_size, probs_SNC[:, :0])
