"""Arrays, and data sets that are read by index, as `fit(X=, y=)` takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distcel.data.in_memory import InMemory, in_memory
from distcel.experiment.errors import InvalidInputError
from tests import made_data as data

LABELS = data.balanced(3, 4)
IMAGES = data.pictures(LABELS, 3, 16, 0)


class Pairs:
    """A data set as torchvision's are."""

    def __init__(self, items: list[Any], **attributes: Any) -> None:
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def pictures(images: Any = IMAGES) -> list[Image.Image]:
    return [Image.fromarray(image.transpose(1, 2, 0)) for image in images]


def all_of(found: InMemory, image_size: int | None = None) -> Any:
    pool = found.source.train
    return pool.read(np.arange(len(pool.labels)), image_size)


def test_arrays_tensors_and_data_sets_of_the_same_images_are_the_same_samples() -> None:
    names = ["ant", "bee", "cow"]
    features = {"label": SimpleNamespace(names=names)}
    rows = [
        {"img": p, "label": label} for p, label in zip(pictures(), LABELS.tolist(), strict=True)
    ]
    found = [
        in_memory(IMAGES, [names[label] for label in LABELS], None, None),
        in_memory(Pairs(list(zip(pictures(), LABELS, strict=True)), classes=names), *3 * [None]),
        in_memory(Pairs(list(zip(IMAGES, LABELS, strict=True)), classes=names), *3 * [None]),
        in_memory(Pairs(rows, features=features), None, None, None),
    ]
    for one in found:
        assert one.source.class_names == ("ant", "bee", "cow")
        np.testing.assert_array_equal(all_of(one), IMAGES)
        np.testing.assert_array_equal(one.source.train.labels, LABELS)
    assert len({one.digest for one in found}) == 1
    numbered = in_memory(torch.from_numpy(IMAGES), LABELS + 5, None, None)
    assert numbered.source.class_names == ("5", "6", "7")
    np.testing.assert_array_equal(numbered.source.train.labels, LABELS)


def test_the_digest_is_of_pixels_labels_names_and_which_are_test() -> None:
    other, moved = IMAGES.copy(), LABELS.copy()
    other[3, 0, 0, 0] ^= 1
    moved[[0, -1]] = moved[[-1, 0]]
    found = [
        in_memory(IMAGES, LABELS, None, None),
        in_memory(other, LABELS, None, None),
        in_memory(IMAGES, moved, None, None),
        in_memory(IMAGES, LABELS + 1, None, None),
        in_memory(IMAGES, LABELS, IMAGES[:3], LABELS[:3]),
        in_memory(IMAGES, LABELS, IMAGES[1:4], LABELS[1:4]),
    ]
    assert len({one.digest for one in found}) == len(found)
    test = found[-1].source.test
    assert test is not None
    np.testing.assert_array_equal(test.read(np.array([2]), None), IMAGES[[3]])


def test_images_of_other_sizes_are_resized_and_refused_without_a_size() -> None:
    sizes = [picture.resize((16 + i, 20)) for i, picture in enumerate(pictures())]
    found = in_memory(Pairs(list(zip(sizes, LABELS, strict=True))), None, None, None)
    assert all_of(found, 12).shape == (12, 3, 12, 12)
    with pytest.raises(InvalidInputError, match="images of one shape"):
        all_of(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((IMAGES / 255, LABELS), r"uint8 images .* as X, but got float64 \(12, 3, 16, 16\): scale"),
        ((IMAGES[:, 0], LABELS), r"as X, but got uint8 \(12, 16, 16\)"),
        ((IMAGES.transpose(0, 2, 3, 1), LABELS), r"channels before height.*: transpose it"),
        ((IMAGES, LABELS[:-1]), r"each image of X, but got int64 \(11,\) for 12 images"),
        ((IMAGES, LABELS / 2), "a whole number or text, for each image of X, but got float64"),
        ((IMAGES, None), "y beside an array as X"),
        ((None, None, IMAGES), "y beside an array as X"),
        ((IMAGES, LABELS, IMAGES), "y beside an array as X_test"),
        ((IMAGES, LABELS, None, LABELS), "X_test beside y_test"),
        ((IMAGES, LABELS, IMAGES, LABELS + 1), r"test labels that train has, but got \[3\]"),
        ((Pairs([]), None), "samples in X, but got 0"),
        ((Pairs([IMAGES[0]]), None), "as of item 0, but got 'ndarray'"),
        ((Pairs([{"x": 1, "label": 0}]), None), r"as of item 0, but got \['label', 'x'\]"),
        ((Pairs([(IMAGES[0] / 255.0, 1)]), None), "uint8 pixels .* image 0 of X, but got float64"),
        ((Pairs([(IMAGES[0], 7)], classes=["a"]), None), r"labels from 0 to 0, but got \[7\]"),
        ((Pairs([(Image.new("F", (8, 8)), 7)]), None), "image 0 of X .its pixels are floats"),
        (([IMAGES[0], IMAGES[0, :, :4]], [0, 1]), "an array as X, but got"),
    ],
)
def test_what_is_no_images_and_labels_is_refused(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        in_memory(*given, *(4 - len(given)) * [None])
    assert "\n" not in str(error.value)
