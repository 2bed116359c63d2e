"""Trains a selection net on arrays in memory, by a fixed recipe and without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from distcel.core.networks import NetworkPlan
from distcel.core.priced_ensemble import answer_features
from distcel.data.splits import Probabilities, Split, Splits
from distcel.evaluate.calibration import fit_temperature
from distcel.experiment.prices import Prices
from distcel.experiment.types import AnyK
from distcel.search.refit import SmartRule, choose_k, trained_priced
from distcel.search_spaces.select import experiment_of
from distcel.serve.selector import Selector
from distcel.train.selection import TrainingTask, choose_price_weight

_VALID_SHARE = 0.2

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def train_selector(
    features_SF: Features,
    labels_S: Labels,
    probs_SNC: Probabilities,
    names: tuple[str, ...],
    k: int | AnyK,
    prices: Prices | None,
    seed: int,
) -> tuple[Selector, int]:
    """Train a selection net for all its epochs, on a part of the samples.

    The others, a fifth of each class, choose k or the weight of price, and the temperature.

    Args:
        features_SF: standardised numbers that the net sees.
        labels_S: the labels, 0..C-1.
        probs_SNC: the learners' class probabilities, of models that have not seen the sample.
        names: the learners' names.
        k: the number of learners that are asked for a sample, with prices at most; `any` leaves it
            to valid.
        prices: the learners' prices, the first ones always asked; None where these do not matter.
        seed: seeds the valid part, the weights and the batches.

    Returns:
        Selector: the selection net with what it needs to predict.
        int: k, the chosen one if it was `any`.

    Raises:
        DivergedError: a loss became NaN or infinite.
    """
    n_learners, n_classes = probs_SNC.shape[1:]
    class_names = tuple(str(label) for label in range(n_classes))
    n_selectable = None if prices is None else n_learners - prices.n_always
    if prices is not None:
        always_SF = answer_features(torch.from_numpy(probs_SNC[:, : prices.n_always])).flatten(1)
        features_SF = np.concatenate([features_SF, always_SF.numpy()], axis=1)
    train, valid = _parts(labels_S, seed)
    by_name: Any = {
        name: _split(rows, features_SF, labels_S, probs_SNC)
        for name, rows in (("train", train), ("valid", valid))
    }
    splits = Splits(class_names, by_name, "", 0)
    experiment = experiment_of("arrays", splits.image_shape, len(train), n_selectable)
    plan = NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())
    task = TrainingTask(experiment, plan, splits, seed, prices)
    params = replace(experiment.first_trial, k=n_selectable or k if k == "any" else k)
    trained = task.begin(params, torch.device("cpu")).run()
    params, _ = choose_k(task, params, trained)
    rule = SmartRule(params)
    if prices is not None:
        priced = trained_priced(trained, task, params)
        choose_price_weight(priced, task)
        rule = replace(rule, price_weight=priced.price_weight)
    valid_probs_SC = rule.predict(trained, task, task.valid).numpy()
    temperature = fit_temperature(valid_probs_SC, task.valid.labels_S)
    ensemble = rule.ensemble(trained, task)
    return Selector(ensemble, plan, names, class_names, temperature), rule.params.chosen_k


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


def _split(
    rows: Labels, features_SF: Features, labels_S: Labels, probs_SNC: Probabilities
) -> Split:
    ids = pa.array([str(row) for row in rows], pa.string())
    return Split(ids, labels_S[rows], features_SF[rows], probs_SNC[rows])
