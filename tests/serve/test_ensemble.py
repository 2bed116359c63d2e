from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distcel.data.images import decode_images
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import VoteName
from distcel.serve import ensemble as standalone
from distcel.serve.ensemble import load_ensemble
from tests import made_data as data
from tests.conftest import ENSEMBLE_PARAMS, NAMES, PLAN, save_untrained, untrained


@pytest.mark.parametrize("vote", ["sum", "learned"])
def test_a_loaded_ensemble_votes_like_the_one_on_cached_predictions(
    vote: VoteName, tmp_path: Path
) -> None:
    params = replace(ENSEMBLE_PARAMS, vote=vote)
    images = torch.from_numpy(data.pictures(data.balanced(3, 15), 3, 16, 0))
    with torch.inference_mode():
        probs = torch.stack([PLAN.build(3, seed=i)(images).softmax(-1) for i in range(6)], dim=1)
        expected = untrained(params)(images, probs).softmax(-1)
    loaded = load_ensemble(save_untrained(tmp_path / "ensemble", params))
    assert loaded.class_names == NAMES
    assert loaded.learner_names == ("ant", "bee", "cow", "ant+bee", "ant+cow", "bee+cow")
    torch.testing.assert_close(loaded(images), expected)


def test_files_are_classified_at_any_size(
    saved_ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standalone, "_BATCH", 4)
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    found = load_ensemble(saved_ensemble).classify(paths)
    images = torch.from_numpy(decode_images(paths, "RGB", 16))
    said = load_ensemble(saved_ensemble)(images).argmax(-1)
    assert found == [NAMES[index] for index in said]
    assert len(set(found)) > 1
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"broken\.png"):
        load_ensemble(saved_ensemble).classify([tmp_path / "broken.png"])


def test_files_are_not_squeezed_into_a_shape_without_a_square(
    saved_ensemble: Path, tmp_path: Path
) -> None:
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    ensemble = load_ensemble(saved_ensemble)
    ensemble.plan = replace(ensemble.plan, image_shape=(3, 16, 20))
    with pytest.raises(InvalidInputError, match=r"images of 16 x 20 pixels, but got \(40, 40\)"):
        ensemble.classify(sorted((tmp_path / "photos").rglob("*.png")))


def test_learners_that_nobody_asks_are_not_run(saved_ensemble: Path) -> None:
    loaded = load_ensemble(saved_ensemble)
    images = torch.from_numpy(data.pictures(np.array([1]), 3, 16, 0))
    ran: list[int] = []
    for i, learner in enumerate(loaded.learners):
        learner.register_forward_hook(lambda *_, i=i: ran.append(i))
    loaded(images)
    assert ran == loaded.smart.select(images)[0].nonzero().flatten().tolist()
    assert len(ran) == 2
