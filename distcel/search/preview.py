"""What a launch would train, and for how long: for `--dry-run`, and where learners are many."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from distcel.data.draw import draw_splits
from distcel.data.formats import Labels
from distcel.data.subsets import specs_of
from distcel.execute.process import worker_settings
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.types import Experiment, SplitName, first_point
from distcel.search.options import Options
from distcel.search.prepare import Prepared, require_memory
from distcel.train.estimate import Estimate, count_samples, estimate

logger = logging.getLogger(__name__)

MANY_LEARNERS = 300  # those of 24 classes
_MEASURED = 2048  # samples of the epoch that is measured


def preview(experiment: Experiment, options: Options) -> Estimate:
    """Estimate a launch; nothing is written, and one image is read.

    Raises:
        InvalidInputError: a part of the input is unusable, or the predictions of all base learners
            do not fit into memory.
    """
    class_names, pools = draw_splits(experiment, options.data_dir, options.seed)
    labels: dict[SplitName, Labels] = {name: pool.labels for name, pool in pools.items()}
    specs = specs_of(experiment, class_names, labels["train"], options.seed)
    require_memory(len(labels["train"]), len(specs), len(class_names))
    image = pools["train"].read(np.zeros(1, np.int64), experiment.image_size)
    return _estimate(experiment, options, specs, len(class_names), labels, image.shape[1:])


def preview_selection(prepared: Prepared) -> str:
    """What a launch on given predictors would train, after all checks; nothing is written.

    One epoch of the first trial is trained on this machine, one process with one thread, of at most
    `_MEASURED` samples, and the minutes are estimated from it.
    """
    task, splits, prices = prepared.selection_task(), prepared.splits, prepared.prices
    assert prepared.answers is not None, "of base learners, there is `preview`"
    n_train, epochs = len(task.train.labels_S), prepared.search.max_epochs
    measured_S = np.arange(n_train) < _MEASURED
    few = replace(splits, by_name={"train": task.train.where(measured_S), "valid": task.valid})
    with worker_settings():
        training = replace(task, splits=few).begin(prepared.search.first, torch.device("cpu"))
        seconds = training.run_epoch().seconds / int(measured_S.sum())
    of_training = n_train * seconds * epochs / 60
    n_refits = 1 if prices is None else 2  # with prices once more, on train and valid
    sizes = ", ".join(f"{len(split.labels_S)} {name}" for name, split in splits.by_name.items())
    names, n_trials = prepared.answers.names, prepared.search.num_samples
    always = ", ".join(names[: prepared.answers.n_always]) or "none"
    seen = "x".join(map(str, splits.image_shape))
    return "\n".join(
        [
            f"data: {prepared.experiment.dataset}, {len(splits.class_names)} classes, {sizes}",
            f"predictors: {', '.join(names)}; always asked: {always}",
            f"selection net: {prepared.experiment.network.name}, which sees {seen} numbers",
            f"search: {n_trials} trials of at most {epochs} epochs on {n_train} samples, "
            f"{1e3 * seconds:.3f} ms a sample: {n_trials * of_training:.1f} min of one worker "
            "without early stopping",
            f"then the best one is trained again: {n_refits * of_training:.1f} min",
        ]
    )


def warn_of_many_learners(prepared: Prepared) -> None:
    """Log a warning with the estimate if more than `MANY_LEARNERS` are still to be trained."""
    pairs = zip(prepared.specs, prepared.keys, strict=True)
    n_missing = sum(not prepared.cache.holds(spec, key) for spec, key in pairs)
    if n_missing <= MANY_LEARNERS:
        return
    splits = prepared.splits
    labels: dict[SplitName, Labels] = {
        name: splits[name].labels_S for name in ("train", "valid", "test")
    }
    if "holdout" in splits.by_name:
        labels["train"] = np.concatenate([labels["train"], splits["holdout"].labels_S])
    experiment, options, n_classes = prepared.experiment, prepared.options, len(splits.class_names)
    shape = splits.image_shape
    found = _estimate(experiment, options, prepared.specs, n_classes, labels, shape)
    logger.warning(
        "%d of %d base learners are to be trained; all trainings of a run take about %.1f h of one "
        "worker like this machine, %.1f h of it the base learners'. With learner_sets = 'singles' "
        "there are %d",
        n_missing,
        len(prepared.specs),
        found.minutes / 60,
        (found.base_minutes + found.copies_minutes) / 60,
        n_classes,
    )


def _estimate(
    experiment: Experiment,
    options: Options,
    specs: Sequence[LearnerSpec],
    n_classes: int,
    labels: Mapping[SplitName, Labels],
    image_shape: tuple[int, ...],
) -> Estimate:
    counts = count_samples(labels["train"], specs, experiment, options.selector_split, options.seed)
    return estimate(
        experiment,
        n_classes,
        {name: len(labels_S) for name, labels_S in labels.items()},
        image_shape,
        len(specs),
        first_point(experiment, len(specs), options.fixed),
        options.num_samples or experiment.num_samples,
        counts,
        options.fixed,
    )
