"""A temperature that makes an ensemble's confidence as high as its accuracy (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.evaluate.metrics import expected_calibration_error

_LOWEST, _HIGHEST = 0.02, 50.0  # of the temperature; without a valid error the best one is 0

Probs = NDArray[np.floating[Any]]  # class probabilities, (S, C)


def fit_temperature(probs_SC: Probs, labels_S: NDArray[np.int64]) -> float:
    """The temperature, from 0.02 to 50, with the least negative log likelihood.

    The likelihood is that of softmax(logits / temperature), for logits whose softmax is `probs_SC`.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        tempered_SC = with_temperature(probs_SC, float(np.exp(log_temperature)))
        return negative_log_likelihood(tempered_SC, labels_S)

    bounds = np.log((_LOWEST, _HIGHEST))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def with_temperature(probs_SC: Probs, temperature: float) -> Probs:
    """softmax(logits / temperature), for logits whose softmax is `probs_SC`."""
    logits_SC = _log(probs_SC) / temperature
    powers_SC = np.exp(logits_SC - logits_SC.max(1, keepdims=True))
    tempered_SC: Probs = powers_SC / powers_SC.sum(1, keepdims=True)
    return tempered_SC


def negative_log_likelihood(probs_SC: Probs, labels_S: NDArray[np.int64]) -> float:
    """The mean of -log p of the samples' own classes, in nats."""
    return float(-_log(probs_SC[np.arange(len(labels_S)), labels_S]).mean())


def calibration(
    valid_probs_SC: Probs,
    valid_labels_S: NDArray[np.int64],
    test_probs_SC: Probs,
    test_labels_S: NDArray[np.int64],
) -> dict[str, Any]:
    """Fit the temperature on valid, and measure what it changes on test.

    Returns:
        dict: `temperature`; `before` and `after`, each with `calibration_error` (a fraction) and
        `negative_log_likelihood` (nats) on test.
    """
    temperature = fit_temperature(valid_probs_SC, valid_labels_S)

    def measured(probs_SC: Probs) -> dict[str, float]:
        return {
            "calibration_error": expected_calibration_error(probs_SC, test_labels_S),
            "negative_log_likelihood": negative_log_likelihood(probs_SC, test_labels_S),
        }

    return {
        "temperature": temperature,
        "before": measured(test_probs_SC),
        "after": measured(with_temperature(test_probs_SC, temperature)),
    }


def _log(probs: Probs) -> Probs:
    logarithms: Probs = np.log(probs.clip(np.finfo(np.float64).tiny))
    return logarithms
