"""Groups of samples whose accuracy is reported by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GENDERS = ("male", "female")
_ETHNICITIES = ("White", "Black", "Asian", "Indian", "Others")  # UTKFace's own terms
_UTKFACE_NAME = re.compile(r"\d{1,3}_([01])_([0-4])_\d")


def slices(dataset: str, sample_ids: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which samples belong to each slice of the data set, (S,), by name; most have no slices.

    UTKFace's are by gender and by ethnicity, which its file names `age_gender_race_date` tell. A
    name that lacks a field belongs to no slice: nothing says which of them it lacks.
    """
    if dataset != "utkface":
        return {}
    fields = [match and match.groups() for match in map(_UTKFACE_NAME.match, sample_ids)]
    return {
        name: np.array([told is not None and told[field] == str(code) for told in fields], bool)
        for field, names in enumerate((_GENDERS, _ETHNICITIES))
        for code, name in enumerate(names)
    }
