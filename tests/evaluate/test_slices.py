import numpy as np

from distcel.evaluate.slices import slices

IDS = [
    "100_1_0_20170110183726390.jpg.chip.jpg",
    "8_0_3_20170110183726390.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",  # these lack a field, as in the archive itself
    "61_3_20170109150557335.jpg.chip.jpg",
    "53__0_20170116184028385.jpg",
    "26_1_4_20170117154225033.jpg",
]


def test_utkface_has_slices_by_gender_and_ethnicity() -> None:
    inside = {name: np.flatnonzero(of_slice) for name, of_slice in slices("utkface", IDS).items()}
    expected = {
        "male": [1],
        "female": [0, 5],
        "White": [0],
        "Black": [],
        "Asian": [],
        "Indian": [1],
        "Others": [5],
    }
    assert {name: found.tolist() for name, found in inside.items()} == expected


def test_other_data_sets_have_none() -> None:
    assert slices("folder", IDS) == {}
