"""Answers of predictors that were not trained here, as splits to train a selection net on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from distcel.data.features import read_features, require_features
from distcel.data.formats import Indices
from distcel.data.predictors import Predictors, read_predictors
from distcel.data.splits import Split, Splits
from distcel.data.truth import read_truth, split_samples
from distcel.experiment.errors import invalid, require, require_count, require_non_negative
from distcel.experiment.names import printable
from distcel.experiment.types import SplitName


@dataclass(frozen=True)
class Answers:
    """What N predictors answered.

    Attributes:
        names: the predictors: the always-asked ones first, in the order given, then by file name
            or by their order in the array.
        splits: train, valid and test with `probs_SNC`. A predictor that did not answer a sample
            has a row of zeros there.
        n_always: the first `n_always` predictors are always asked.
        prices_N: the price of an answer of each predictor, in one unit; None if none are known.
        n_unanswered: by split, how many samples each predictor did not answer.
        n_raised: how many confidences were at most 1/C. All of such a predictor are raised, so that
            the label is the most probable class.
        raised: these predictors.
    """

    names: tuple[str, ...]
    splits: Splits
    n_always: int
    prices_N: tuple[float, ...] | None
    n_unanswered: Mapping[SplitName, tuple[int, ...]]
    n_raised: int
    raised: tuple[str, ...] = ()


def read_answers(
    predictions: Path,
    truth: Path,
    *,
    features: Path | None = None,
    always: Sequence[str] = (),
    prices: Path | None = None,
    shares: tuple[float, float, float] = (0.4, 0.1, 0.5),
    seed: int = 0,
    image_size: int | None = None,
) -> Answers:
    """Read predictions, truth, and what the selection net sees.

    Args:
        predictions: a folder with a table a predictor, with the columns sample_id and either label
            and confidence or one a class; or an array of shape (S, N, C).
        truth: a table with the columns sample_id, label and, if it has it, split.
        features: images or numbers that the selection net sees.
        always: names of predictors that are always asked; the selection net sees their answers.
        prices: a JSON object from the predictors' names to prices.
        shares: shares of train, valid and test, if the truth has no splits.
        seed: seeds the draw of the splits, if the truth has none.
        image_size: side that images are resized to; None keeps their sizes.

    Raises:
        InvalidInputError: something is missing, unreadable or inconsistent.
    """
    if image_size is not None:
        require_count("image_size", image_size)
    require_features(features, always)
    known = read_truth(truth)
    indices = split_samples(known, shares, seed)
    others = [path for path in (truth, features, prices) if path is not None]
    read = _always_first(read_predictors(predictions, known, others), always)
    prices_N = None if prices is None else _read_prices(prices, read.names)
    unanswered = {
        name: tuple((~read.probs_SNC[indices_S].any(-1)).sum(0).tolist())
        for name, indices_S in indices.items()
    }
    _require_answers(read.names, unanswered["train"], len(indices["train"]))
    seen = read_features(features, known, image_size, read.probs_SNC[:, : len(always)])
    by_name = {
        name: Split(
            known.ids.take(pa.array(indices_S)),
            _part(known.labels_S, indices_S),
            _part(seen, indices_S),
            _part(read.probs_SNC, indices_S),
        )
        for name, indices_S in indices.items()
    }
    digest = _digest(read.names, known.class_names, by_name)
    splits = Splits(known.class_names, by_name, digest, 0)
    return Answers(
        read.names, splits, len(always), prices_N, unanswered, read.n_raised, read.raised
    )


def _part(array: NDArray[Any], indices: Indices) -> NDArray[Any]:
    """The samples of these indices, C-contiguous and read-only."""
    part = array.take(indices, axis=0)
    part.flags.writeable = False
    return part


def _always_first(read: Predictors, always: Sequence[str]) -> Predictors:
    for name in always:
        rule = f"always-asked predictors among {list(read.names)}"
        require(name in read.names, rule, name, "choose one of these")
    require(len(set(always)) == len(always), "always-asked predictors once", always, "repeat none")
    if not always:
        return read
    order = [*always, *(name for name in read.names if name not in always)]
    places = [read.names.index(name) for name in order]
    return Predictors(
        tuple(order), read.probs_SNC.take(places, axis=1), read.n_raised, (), read.raised
    )


def _require_answers(names: Sequence[str], unanswered: Sequence[int], n_train: int) -> None:
    silent = [name for name, n in zip(names, unanswered, strict=True) if n == n_train]
    rule = "answers of every predictor to some train samples"
    require(not silent, rule, f"none of {silent[:3]}", "leave these predictors out, or add answers")


def _read_prices(path: Path, names: Sequence[str]) -> tuple[float, ...]:
    try:
        found = json.loads(path.read_bytes(), object_pairs_hook=_unrepeated)
    except (OSError, ValueError, RecursionError) as error:
        what = f"{str(path)!r} ({printable(str(error))})"
        raise invalid("a readable JSON object of prices", what, "give or mend the file") from None
    is_object = isinstance(found, dict)
    rule = f"a JSON object from predictors to prices in {str(path)!r}"
    require(is_object, rule, type(found).__name__, 'write {"NAME": PRICE, ...}')
    for name in names:
        rule = f"a price of every predictor in {str(path)!r}"
        require(name in found, rule, f"none of {name!r}", "add it; 0 is allowed")
    for name in found:
        rule = f"prices of {list(names)} in {str(path)!r}"
        require(name in names, rule, name, "remove it, or add the predictor's answers")
        require_non_negative(f"price of {name}", found[name])
    return tuple(float(found[name]) for name in names)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def _digest(
    names: Sequence[str], class_names: Sequence[str], by_name: Mapping[SplitName, Split]
) -> str:
    digest = hashlib.blake2b(json.dumps([names, class_names]).encode(), digest_size=12)
    for name, split in by_name.items():
        seen = split.images_SCHW
        facts = [name, split.sample_ids.to_pylist(), seen.shape, seen.dtype.str]
        digest.update(json.dumps(facts).encode())
        for array in (split.labels_S, seen, split.probs_SNC):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
