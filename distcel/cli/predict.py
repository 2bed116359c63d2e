"""Predict classes: of image files, or of samples that your own predictors answered.

distcel predict runs/digits-quick-seed0 photo.png
distcel predict runs/digits-quick-seed0 photos/*.png --explain
distcel predict runs/mine-select-seed0 --predictions DIR
distcel predict runs/mine-select-seed0 --predictions DIR --ask
The last two are for what `distcel select` trained. A predictor without a file in DIR has not been
asked; --ask prints whom to ask for each sample, by the answers of those that always are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from distcel.cli.output import put
from distcel.experiment.errors import invalid, require

SUMMARY = "predict the class of image files, or combine your own predictors' answers"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `predict`."""
    add = flags.add_argument
    add("folder", type=Path, metavar="RUN", help="a run directory, or an ensemble folder")
    add("images", nargs="*", type=Path, metavar="IMAGE", help="image files, at any size")
    add(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="a table a predictor, in place of images (none)",
    )
    add(
        "--features",
        type=Path,
        metavar="PATH",
        help="what the selection net was trained on, for the samples of --predictions (none)",
    )
    add("--ask", action="store_true", help="print only whom to ask, not the class (off)")
    add(
        "--explain",
        action="store_true",
        help="also who was selected, with the class that each predicts (off)",
    )
    add("--json", action="store_true", help="as a list with an object for each image (off)")


def run(arguments: argparse.Namespace) -> int:
    """Print class and probability of each image or sample; returns the exit status.

    Raises:
        InvalidInputError: the folder has no ensemble, or an image or a table cannot be read.
    """
    given = arguments.predictions is not None
    if given == bool(arguments.images):
        found = "both" if given else "neither"
        raise invalid("image files, or --predictions", found, "give one of the two")
    for flag in ("features", "ask"):
        alone = getattr(arguments, flag) and not given
        require(not alone, f"--predictions beside --{flag}", "image files", "leave the flag out")
    predictions = _of_answers(arguments) if given else _of_images(arguments)
    if arguments.json:
        put(json.dumps(predictions, indent=2))
    else:
        put("\n".join(line for prediction in predictions for line in _lines(prediction)))
    return 0


def _of_images(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from distcel.serve.answers import answers
    from distcel.serve.saved import load_ensemble

    ensemble, paths = load_ensemble(arguments.folder), arguments.images
    found = answers(ensemble, paths, arguments.explain)
    return [{"image": str(path), **answer} for path, answer in zip(paths, found, strict=True)]


def _of_answers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from distcel.data.unlabelled import read_unlabelled
    from distcel.serve.answers import class_of
    from distcel.serve.selector import load_selector

    selector = load_selector(arguments.folder)
    shape, names, classes = selector.input_shape, selector.names, selector.class_names
    side = shape[1] if len(shape) == 3 and shape[1] == shape[2] else None
    given = arguments.folder, arguments.predictions
    known = names, classes, selector.raised
    ids, probs_SNC, features = read_unlabelled(*given, *known, arguments.features, side)
    if arguments.ask:
        asked = selector.to_ask(probs_SNC, features)
        rows = zip(ids, asked, strict=True)
        return [{"sample": i, "ask": [names[n] for n in row.nonzero()[0]]} for i, row in rows]
    combined, selected = selector.predict_proba(probs_SNC, features), None
    if arguments.explain:
        selected = selector.selected(probs_SNC, features)
    predictions = []
    for s, sample in enumerate(ids):
        found: dict[str, Any] = {"sample": sample, **class_of(classes, combined[s])}
        if selected is not None:
            votes = [(names[i], probs_SNC[s, i]) for i in selected[s].nonzero()[0]]
            own = [{"name": name, **class_of(classes, probs_C)} for name, probs_C in votes]
            found["learners"] = own
        predictions.append(found)
    return predictions


def _lines(prediction: dict[str, Any]) -> list[str]:
    of = prediction.get("image", prediction.get("sample"))
    if "ask" in prediction:
        return [f"{of}: {' '.join(prediction['ask']) or '-'}"]
    learners = prediction.get("learners", [])
    width = max((len(learner["name"]) for learner in learners), default=0)
    lines = [f"{of}: {prediction['class']} {prediction['probability']:.4f}"]
    for learner in learners:
        name, predicted = f"{learner['name']:<{width}}", learner["class"]
        lines.append(f"  {name}  {predicted} {learner['probability']:.4f}")
    return lines
