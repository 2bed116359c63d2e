from pathlib import Path

import numpy as np
import pytest
import torch

from distcel.ensemble import SmartEnsemble
from distcel.knapsack import KnapsackLayer
from distcel.standalone import load_ensemble
from distcel.types import InvalidInputError
from tests import data
from tests.conftest import NAMES, PLAN


def test_a_loaded_ensemble_votes_like_the_one_on_cached_predictions(saved_ensemble: Path) -> None:
    images = torch.from_numpy(data.pictures(data.balanced(3, 15), 3, 16, 0))
    with torch.inference_mode():
        probs = torch.stack([PLAN.build(3, seed=i)(images).softmax(-1) for i in range(6)], dim=1)
        smart = SmartEnsemble(PLAN.build(6, seed=99), KnapsackLayer(2, 0.1, 5))
        expected = smart(images, probs).softmax(-1)
    loaded = load_ensemble(saved_ensemble)
    assert loaded.class_names == NAMES
    assert loaded.learner_names == ("ant", "bee", "cow", "ant+bee", "ant+cow", "bee+cow")
    torch.testing.assert_close(loaded(images), expected)


def test_files_are_classified_at_any_size(saved_ensemble: Path, tmp_path: Path) -> None:
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    found = load_ensemble(saved_ensemble).classify(paths)
    assert len(found) == 6
    assert set(found) <= set(NAMES)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"broken\.png"):
        load_ensemble(saved_ensemble).classify([tmp_path / "broken.png"])


def test_learners_that_nobody_asks_are_not_run(saved_ensemble: Path) -> None:
    loaded = load_ensemble(saved_ensemble)
    images = torch.from_numpy(data.pictures(np.array([1]), 3, 16, 0))
    ran: list[int] = []
    for i, learner in enumerate(loaded.learners):
        learner.register_forward_hook(lambda *_, i=i: ran.append(i))
    loaded(images)
    assert ran == loaded.smart.select(images)[0].nonzero().flatten().tolist()
    assert len(ran) == 2
