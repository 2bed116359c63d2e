"""Predictions as JSON objects, as `distcel predict --json` and `distcel serve` give them."""

from __future__ import annotations

from typing import Any

from distcel.serve.ensemble import Ensemble, ImageBatch


def answers(ensemble: Ensemble, images: ImageBatch, explain: bool) -> list[dict[str, Any]]:
    """Class and probability of each image.

    Args:
        ensemble: what predicts.
        images: as `Ensemble.predict` takes them.
        explain: whether to add `learners`, those that are selected with what each predicts.

    Returns:
        list: an object for each image, with probabilities of six decimal places.

    Raises:
        InvalidInputError: as `Ensemble.predict` does.
    """
    found: list[dict[str, Any]] = []
    for probs_C in ensemble.predict_proba(images):
        highest = int(probs_C.argmax())
        found.append(_object(ensemble.class_names[highest], float(probs_C[highest])))
    if explain:
        for answer, votes in zip(found, ensemble.explain(images), strict=True):
            answer["learners"] = [{"name": name, **_object(c, p)} for name, c, p in votes]
    return found


def _object(predicted: str, probability: float) -> dict[str, Any]:
    return {"class": predicted, "probability": round(probability, 6)}
