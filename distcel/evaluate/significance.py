"""Whether one rule is better than another on the same test samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES, _SEED = 10_000, 0


@dataclass(frozen=True)
class Difference:
    """Of two rules' accuracies on the same samples, as fractions.

    Attributes:
        mean: the first one's accuracy minus the second one's.
        low: lower end of the 95 % percentile interval of the paired bootstrap.
        high: its upper end.
        p: of McNemar's test, exact: how probable so uneven a count of samples that only one of
            the two has right would be, if both were equally good.
    """

    mean: float
    low: float
    high: float
    p: float


def difference(right_S: NDArray[np.bool_], other_right_S: NDArray[np.bool_]) -> Difference:
    """Compare two rules by which samples each has right, both of shape (S,)."""
    from scipy.stats import binomtest

    n_samples = len(right_S)
    only_first = int((right_S & ~other_right_S).sum())
    only_second = int((other_right_S & ~right_S).sum())
    # A resample is a draw of how many of its samples only the one, only the other has right.
    shares = np.array([only_first, only_second, n_samples - only_first - only_second]) / n_samples
    draws = np.random.default_rng(_SEED).multinomial(n_samples, shares, _RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n_samples, (0.025, 0.975))
    discordant = only_first + only_second
    p = binomtest(only_first, discordant).pvalue if discordant else 1.0
    return Difference((only_first - only_second) / n_samples, float(low), float(high), float(p))
