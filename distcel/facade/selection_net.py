"""Trains a selection net on arrays in memory, by a fixed recipe and without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit
from torch import nn

from distcel.core.ensemble import SmartEnsemble, trained_ensemble
from distcel.core.networks import NetworkPlan
from distcel.core.priced_ensemble import PricedEnsemble, answer_features, trained_priced_ensemble
from distcel.data.splits import Probabilities, Split, Splits
from distcel.evaluate.calibration import fit_temperature
from distcel.experiment.architecture import Architecture
from distcel.experiment.prices import Prices
from distcel.experiment.types import AnyK, Recipe, SelectionParams
from distcel.search_spaces.select import experiment_of
from distcel.serve.selector import Selector
from distcel.train.selection import (
    TrainingTask,
    best_k,
    choose_price_weight,
    predict_split,
    split_accuracy_over_k,
)

_VALID_SHARE = 0.2
STEPS = 300
_BATCH, _LR, _FIRST_WEIGHTS = 64, 0.005, 0.3
ARCHITECTURE = Architecture("mlp", (32, 32))
_CPU = torch.device("cpu")

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def train_selector(
    features_SF: Features,
    labels_S: Labels,
    probs_SNC: Probabilities,
    names: tuple[str, ...],
    k: int | AnyK,
    prices: Prices | None,
    steps: int,
    seed: int,
) -> tuple[Selector, int]:
    """Train a selection net on all samples.

    With k `any` or prices, one is trained at first without a valid part, a fifth of each class,
    which chooses k or the price to spend, and the temperature. With a fixed k nothing but the
    temperature is left to choose. It is fitted on all samples then: the learners' probabilities are
    those of samples that they have not seen, so that only the mask was fitted to them.

    Args:
        features_SF: standardised numbers that the net sees.
        labels_S: the labels, 0..C-1.
        probs_SNC: the learners' class probabilities, of models that have not seen the sample.
        names: the learners' names.
        k: the number of learners that are asked for a sample, with prices at most; `any` leaves it
            to valid.
        prices: the learners' prices, the first ones always asked; None where these do not matter.
        steps: the number of batches that the net is trained on, to the nearest epoch.
        seed: seeds the valid part, the weights and the batches.

    Returns:
        Selector: the selection net with what it needs to predict.
        int: k, the chosen one if it was `any`.

    Raises:
        DivergedError: a loss became NaN or infinite.
    """
    n_learners, n_classes = probs_SNC.shape[1:]
    task = _task(features_SF, labels_S, probs_SNC, prices, steps, seed)
    params = _params(k, n_learners, prices)
    on_all = task.with_valid_in_train()
    if prices is None and k != "any":
        smart, measured = _trained(on_all, params), on_all.train
        found = smart
    else:
        found, measured = _trained(task, params), task.valid
        smart = _trained(on_all, params)
        if isinstance(found, SmartEnsemble):
            found.layer.k = best_k(split_accuracy_over_k(found, task.valid))
        else:
            found.price_weight = choose_price_weight(found, task)
        if isinstance(smart, PricedEnsemble):
            smart.price_weight = choose_price_weight(smart, task)
        elif isinstance(found, SmartEnsemble):
            smart.layer.k = found.layer.k
    temperature = fit_temperature(predict_split(found, measured).numpy(), measured.labels_S)
    class_names = tuple(str(label) for label in range(n_classes))
    chosen_k = smart.layer.layer.k if isinstance(smart, PricedEnsemble) else smart.layer.k
    return Selector(smart, task.plan, names, class_names, temperature), chosen_k


def recipe_of(n_samples: int, steps: int = STEPS) -> Recipe:
    """How a net is trained on this number of samples: for as many steps on few as on many."""
    epochs = max(1, round(steps / -(-n_samples // _BATCH)))
    return Recipe("adam", _LR, epochs, _BATCH, schedule="one_cycle")


def _task(
    features_SF: Features,
    labels_S: Labels,
    probs_SNC: Probabilities,
    prices: Prices | None,
    steps: int,
    seed: int,
) -> TrainingTask:
    n_classes = probs_SNC.shape[2]
    if prices is not None:
        always_SF = answer_features(torch.from_numpy(probs_SNC[:, : prices.n_always])).flatten(1)
        features_SF = np.concatenate([features_SF, always_SF.numpy()], axis=1)
    train, valid = _parts(labels_S, seed)
    by_name: Any = {
        name: _split(rows, features_SF, labels_S, probs_SNC)
        for name, rows in (("train", train), ("valid", valid))
    }
    splits = Splits(tuple(map(str, range(n_classes))), by_name, "", 0)
    experiment = replace(
        experiment_of("arrays", splits.image_shape, len(train), None if prices is None else 1),
        architecture=ARCHITECTURE,
        selector_recipe=recipe_of(len(labels_S), steps),
    )
    plan = NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())
    return TrainingTask(experiment, plan, splits, seed, prices)


def _params(k: int | AnyK, n_learners: int, prices: Prices | None) -> SelectionParams:
    """The point: without prices the paper's vote, with prices a learned one."""
    if prices is None:
        # In scores of norm 1 the smoothing is as wide as their standard deviation.
        return SelectionParams(k, n_learners**-0.5, 1, _LR, "exact")
    most = n_learners - prices.n_always if k == "any" else k
    return SelectionParams(most, 0.3, 1, _LR, "exact", "learned")


def _trained(task: TrainingTask, params: SelectionParams) -> SmartEnsemble | PricedEnsemble:
    """A smart ensemble after all epochs; nothing is measured meanwhile."""
    training = task.begin(params, _CPU)
    assert isinstance(training.ensemble, (SmartEnsemble, PricedEnsemble))
    if task.prices is None:  # with prices a score is what an answer adds to the accuracy
        _begin_with_the_best(training.ensemble.selection_net, task)
    for _ in range(training.n_epochs):
        training.training.run_epoch()
    weights: Any = training.ensemble.state_dict()
    _, n_learners, n_classes = task.train.probs_SNC.shape
    # A new one has no generator of its layer's noise, which cannot be pickled.
    if task.prices is not None:
        return trained_priced_ensemble(task.plan, params, task.prices, n_classes, weights)
    known = replace(params, k=1) if params.k == "any" else params
    return trained_ensemble(task.plan, n_learners, n_classes, known, weights)


def _begin_with_the_best(net: nn.Module, task: TrainingTask) -> None:
    """Have the net's first scores be the learners' accuracies, almost the same for every sample.

    Few samples say little of where a learner is good, and more of how good it is. The accuracies
    are standardised, and shrunk by what of their spread the chance of so many samples would give.
    """
    last = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
    accuracy_N = task.train.learners_correct.mean(0)
    by_chance = (accuracy_N * (1 - accuracy_N)).mean() / len(task.train.labels_S)
    reliable = max(0.0, 1 - by_chance / max(accuracy_N.var(), 1e-12))
    scores_N = reliable * (accuracy_N - accuracy_N.mean()) / max(accuracy_N.std(), 1e-6)
    with torch.no_grad():
        last.weight.mul_(_FIRST_WEIGHTS)
        last.bias.copy_(torch.from_numpy(scores_N))


def _parts(labels_S: Labels, seed: int) -> tuple[Labels, Labels]:
    """The indices of train and valid, drawn by class; a class with one sample is in train."""
    rows = np.arange(len(labels_S))
    counts_S = np.bincount(labels_S)[labels_S]
    many, few = rows[counts_S > 1], rows[counts_S == 1]
    n_classes = len(np.unique(labels_S[many]))
    n_valid = max(round(_VALID_SHARE * len(many)), n_classes)
    if not n_classes or len(many) - n_valid < n_classes:
        return rows, rows  # too few samples to hold any out
    draw = StratifiedShuffleSplit(1, test_size=n_valid, random_state=seed)
    train, valid = next(draw.split(many, labels_S[many]))
    return np.sort(np.concatenate([many[train], few])), np.sort(many[valid])


def _split(rows: Labels, features: Features, labels_S: Labels, probs_SNC: Probabilities) -> Split:
    ids = pa.array([str(row) for row in rows], pa.string())
    return Split(ids, labels_S[rows], features[rows], probs_SNC[rows])
