"""What the page of a run shows beyond `results.json`, measured when the test split is read."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from distcel.data.images import Images
from distcel.data.splits import Split
from distcel.evaluate.calibration import Probs, with_temperature
from distcel.evaluate.metrics import BINS, bin_of
from distcel.rules.registry import RULES, predict_rules
from distcel.rules.rule import RuleOptions, correct

# Pictures of people are never copied into a page that is passed on. Of a folder of the user's own
# nobody knows what it shows, so that only the samples' ids are.
_FACES = ("fer2013", "utkface")
_PICTURED = ("digits", "mnist", "fashion_mnist", "cifar10")
_LEAST_CERTAIN = 10
_SIDE = 96  # of a picture in the page, in pixels, at most
_ON_VALID = ("unweighted_average", "plurality_vote")  # they are fitted on nothing


def measure_details(
    dataset: str,
    test: Split,
    probs_SC: Probs,
    asked_SN: NDArray[np.bool_],
    scores_SN: NDArray[np.float32] | None,
    k: int,
    temperature: float,
) -> dict[str, Any]:
    """Measure the smart ensemble on the test split in detail.

    Args:
        dataset: the data set, whose pictures may be of people.
        test: the samples.
        probs_SC: the smart ensemble's class probabilities before the temperature, (S, C).
        asked_SN: which learners are selected, (S, N).
        scores_SN: the learners' scores, (S, N); None if no samples are to be shown.
        k: the number of learners that it selects.
        temperature: the one that was fitted on valid.

    Returns:
        dict: for `details.json`. `asked_by_class`: the share of each true class's samples for
        which each learner is selected, C rows of N; `confusion`: how many samples of each true
        class have each prediction, C rows of C; `reliability`: `before` and `after` the
        temperature, as `reliability` gives it; `least_certain`: as `least_certain` gives it, empty
        for data sets of faces.
    """
    labels_S, n_classes = test.labels_S, probs_SC.shape[1]
    per_class_C = np.bincount(labels_S, minlength=n_classes)
    asked_CN = np.zeros((n_classes, asked_SN.shape[1]))
    np.add.at(asked_CN, labels_S, asked_SN)
    confusion_CC = np.zeros((n_classes, n_classes), int)
    np.add.at(confusion_CC, (labels_S, probs_SC.argmax(1)), 1)
    tempered_SC = with_temperature(probs_SC, temperature)
    uncertain = []
    if scores_SN is not None and dataset not in _FACES:
        uncertain = least_certain(test, tempered_SC, scores_SN, k)
    if dataset not in _PICTURED:
        uncertain = [{**found, "png": None} for found in uncertain]
    return {
        "asked_by_class": (asked_CN / np.maximum(per_class_C, 1)[:, None]).round(4).tolist(),
        "confusion": confusion_CC.tolist(),
        "reliability": {
            "before": reliability(probs_SC, labels_S),
            "after": reliability(tempered_SC, labels_S),
        },
        "least_certain": uncertain,
    }


def rivals_on_valid(options: RuleOptions) -> dict[str, float]:
    """The accuracy on valid of rules that nothing was fitted for, by key."""
    valid = options.valid
    probs, _ = predict_rules([RULES[key] for key in _ON_VALID], valid, valid, options)
    return {key: float(correct(draws, valid.labels_S).mean()) for key, draws in probs.items()}


def reliability(probs_SC: Probs, labels_S: NDArray[np.int64]) -> list[dict[str, float]]:
    """The reliability diagram: the bins of the calibration error that have samples.

    Returns:
        list: of each bin the number of samples, `n`, and their mean `confidence` and `accuracy`.
    """
    confidence_S, correct_S = probs_SC.max(1), probs_SC.argmax(1) == labels_S
    bin_S = bin_of(confidence_S)
    counts, sums, hits = (
        np.bincount(bin_S, weights=weights, minlength=BINS)
        for weights in (None, confidence_S, correct_S)
    )
    return [
        {"n": int(n), "confidence": float(total / n), "accuracy": float(right / n)}
        for n, total, right in zip(counts, sums, hits, strict=True)
        if n
    ]


def least_certain(
    test: Split, probs_SC: Probs, scores_SN: NDArray[np.float32], k: int
) -> list[dict[str, Any]]:
    """The ten samples whose k-th and next best scores are nearest, and which learners voted.

    Returns:
        list: `sample_id`, `label`, `predicted`, its `probability`, `margin` (the difference of
        the two scores), `voters` (`learner`, what it `predicted` and with which `probability`, the
        highest score first) and `png` (base64); empty if every learner votes for every sample.
    """
    n_learners = scores_SN.shape[1]
    if k == n_learners:
        return []
    sorted_SN = -np.sort(-scores_SN, axis=1)
    margin_S = sorted_SN[:, k - 1] - sorted_SN[:, k]
    found = []
    for i in np.argsort(margin_S, kind="stable")[:_LEAST_CERTAIN]:
        voted = np.argsort(-scores_SN[i], kind="stable")[:k]
        voters = [{"learner": int(n), **_prediction(test.probs_SNC[i, n])} for n in voted]
        found.append(
            {
                "sample_id": test.sample_ids[int(i)].as_py(),
                "label": int(test.labels_S[i]),
                **_prediction(probs_SC[i]),
                "margin": float(margin_S[i]),
                "voters": voters,
                "png": _png(test.images_SCHW[i]),
            }
        )
    return found


def _prediction(probs_C: Probs) -> dict[str, Any]:
    return {"predicted": int(probs_C.argmax()), "probability": round(float(probs_C.max()), 4)}


def _png(image_CHW: Images) -> str:
    """The image, at most 96 pixels wide and high, as the base64 text of a PNG file."""
    levels = np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    picture.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
