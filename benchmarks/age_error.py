"""How well ages must be known for an accuracy in UTKFace's five age classes.

    python -m benchmarks.age_error --data-dir DIR

Each face's age, in years, gets a random error of a given mean size; the class of the age that
results is right or wrong. Errors are of one size at every age, or grow with the age as its square
root or in proportion to it, since estimators err less on children. No estimator is run and no split
is read: the question is what a mean error of so many years can give in these classes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import table
from distcel.data.readers import AGE_UPPER_BOUNDS

MEAN_ERRORS = (1.5, 2.0, 2.2, 2.5, 3.0, 3.5, 3.8, 4.25, 5.0)
POWERS = (0, 0.5, 1)
_DRAWS, _SEED = 100, 0


def ages(folder: Path) -> NDArray[np.float64]:
    """The ages (S,) in the names of the photographs of a folder."""
    found = (re.match(r"(\d{1,3})_", path.name) for path in folder.rglob("*.jpg"))
    return np.array(sorted(float(name[1]) for name in found if name))


def accuracy(ages_S: NDArray[np.float64], errors_DS: NDArray[np.float64]) -> float:
    """The share of ages that are in their own class with the errors, in %."""
    # An age estimated to be 5.4 rounds to 5: a class ends half a year above its last whole age.
    bounds = np.array(AGE_UPPER_BOUNDS) + 0.5
    right = np.searchsorted(bounds, ages_S) == np.searchsorted(bounds, ages_S + errors_DS)
    return 100 * float(right.mean())


def main() -> None:
    """As the command line says."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path, required=True)
    ages_S, random = ages(flags.parse_args().data_dir), np.random.default_rng(_SEED)
    draws_DS, rows = random.normal(size=(_DRAWS, len(ages_S))), []
    for mean_error in MEAN_ERRORS:
        row: list[object] = [mean_error]
        for power in POWERS:
            errors_DS = draws_DS * (ages_S + 1) ** power
            errors_DS *= mean_error / np.abs(errors_DS).mean()
            row.append(f"{accuracy(ages_S, errors_DS):.1f}")
        rows.append(row)
    print(f"{len(ages_S)} ages")
    print(table(["mean error, years", *(f"age^{power:g}" for power in POWERS)], rows))


if __name__ == "__main__":
    main()
