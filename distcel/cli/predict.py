"""Predict the class of image files with the smart ensemble of a run.

distcel predict runs/digits-quick-seed0 photo.png
distcel predict runs/digits-quick-seed0 photos/*.png --explain
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from distcel.cli.output import put

SUMMARY = "predict the class of image files"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `predict`."""
    add = flags.add_argument
    add("folder", type=Path, metavar="RUN", help="a run directory, or an ensemble folder")
    add("images", nargs="+", type=Path, metavar="IMAGE", help="image files, at any size")
    add(
        "--explain",
        action="store_true",
        help="also the base learners that were selected, with the class that each predicts (off)",
    )
    add("--json", action="store_true", help="as a list with an object for each image (off)")


def run(arguments: argparse.Namespace) -> int:
    """Print class and probability of each image; returns the exit status.

    Raises:
        InvalidInputError: the folder has no ensemble, or an image cannot be read.
    """
    from distcel.serve.answers import answers
    from distcel.serve.saved import load_ensemble

    ensemble, paths = load_ensemble(arguments.folder), arguments.images
    found = answers(ensemble, paths, arguments.explain)
    predictions = [{"image": str(p), **answer} for p, answer in zip(paths, found, strict=True)]
    if arguments.json:
        put(json.dumps(predictions, indent=2))
    else:
        put("\n".join(line for prediction in predictions for line in _lines(prediction)))
    return 0


def _lines(prediction: dict[str, Any]) -> list[str]:
    learners = prediction.get("learners", [])
    width = max((len(learner["name"]) for learner in learners), default=0)
    lines = [f"{prediction['image']}: {prediction['class']} {prediction['probability']:.4f}"]
    for learner in learners:
        name, predicted = f"{learner['name']:<{width}}", learner["class"]
        lines.append(f"  {name}  {predicted} {learner['probability']:.4f}")
    return lines
