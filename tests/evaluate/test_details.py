import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from distcel.evaluate.details import least_certain, measure_details, reliability
from tests.cached_splits import made_split

# Two samples of class 0 and one of class 1; three learners, of which two are selected.
LABELS = np.array([0, 0, 1])
LEARNERS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)[None].repeat(3, 0)
SCORES = np.array([[0.875, 0.375, 0.125], [0.125, 0.75, 0.25], [0.5, 0.125, 0.375]], np.float32)
ASKED = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
PROBS = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
TEST = made_split(LABELS, LEARNERS)


def test_it_counts_by_true_class() -> None:
    found = measure_details("digits", TEST, PROBS, ASKED, SCORES, 2, 1.0)
    assert found["asked_by_class"] == [[0.5, 1.0, 0.5], [1.0, 0.0, 1.0]]
    assert found["confusion"] == [[1, 1], [0, 1]]
    for before, after in zip(*found["reliability"].values(), strict=True):
        assert before == pytest.approx(after)  # a temperature of 1 changes nothing


def test_a_bin_of_the_reliability_diagram_by_hand() -> None:
    probs = np.array([[0.97, 0.03], [0.95, 0.05], [0.3, 0.7]])
    high = {"n": 2, "confidence": 0.96, "accuracy": 0.5}
    assert reliability(probs, np.array([0, 1, 1])) == [
        {"n": 1, "confidence": pytest.approx(0.7), "accuracy": 1.0},
        pytest.approx(high),
    ]


def test_the_nearest_scores_come_first_with_who_voted() -> None:
    found = least_certain(TEST, PROBS, SCORES, 2)
    # The margins between the second and the third score are 0.25, 0.125 and 0.25.
    ids = [sample["sample_id"] for sample in found]
    assert ids == [TEST.sample_ids[i].as_py() for i in (1, 0, 2)]
    assert found[0]["margin"] == 0.125
    assert (found[0]["label"], found[0]["predicted"], found[0]["probability"]) == (0, 1, 0.7)
    assert found[0]["voters"] == [
        {"learner": 1, "predicted": 1, "probability": 0.8},
        {"learner": 2, "predicted": 0, "probability": 0.6},
    ]
    assert least_certain(TEST, PROBS, SCORES, 3) == []  # all vote: nothing is selected


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_image(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, channels, 8, 8), np.uint8)
    found = least_certain(replace(TEST, images_SCHW=images), PROBS, SCORES, 2)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[0]["png"]))))
    np.testing.assert_array_equal(pixels.reshape(8, 8, channels), images[1].transpose(1, 2, 0))


@pytest.mark.parametrize("dataset", ["fer2013", "utkface"])
def test_faces_are_never_shown(dataset: str) -> None:
    assert measure_details(dataset, TEST, PROBS, ASKED, SCORES, 2, 1.0)["least_certain"] == []


def test_of_a_folder_of_ones_own_only_the_ids_are_shown() -> None:
    found = measure_details("folder", TEST, PROBS, ASKED, SCORES, 2, 1.0)["least_certain"]
    assert [sample["png"] for sample in found] == [None] * 3
