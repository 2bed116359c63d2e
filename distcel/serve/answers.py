"""Predictions as JSON objects, as `distcel predict --json` and `distcel serve` give them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

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
    names = ensemble.class_names
    found = [class_of(names, probs_C) for probs_C in ensemble.predict_proba(images)]
    if explain:
        for answer, votes in zip(found, ensemble.explain(images), strict=True):
            answer["learners"] = [
                {"name": name, "class": predicted, "probability": round(probability, 6)}
                for name, predicted, probability in votes
            ]
    return found


def class_of(class_names: tuple[str, ...], probs_C: NDArray[Any]) -> dict[str, Any]:
    """The most probable class and its probability."""
    highest = int(probs_C.argmax())
    return {"class": class_names[highest], "probability": round(float(probs_C[highest]), 6)}
