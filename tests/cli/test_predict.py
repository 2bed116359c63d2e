"""`distcel predict` with an untrained ensemble."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distcel.cli.main import main
from distcel.serve.saved import load_ensemble
from tests import made_data as data
from tests.conftest import NAMES


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    return [str(path) for path in sorted((tmp_path / "photos").rglob("*.png"))]


def test_each_image_has_its_class_and_probability(
    saved_ensemble: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(saved_ensemble), *photos]) == 0
    ensemble = load_ensemble(saved_ensemble)
    probs, names = ensemble.predict_proba(photos), ensemble.predict(photos)
    expected = [
        f"{path}: {name} {highest:.4f}"
        for path, name, highest in zip(photos, names, probs.max(-1), strict=True)
    ]
    assert capsys.readouterr().out.splitlines() == expected


def test_an_explanation_lists_the_selected_learners(
    saved_ensemble: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = str(saved_ensemble.parent)
    assert main(["predict", run_dir, *photos, "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    explained = load_ensemble(saved_ensemble).explain(photos)
    assert [prediction["image"] for prediction in found] == photos
    for prediction, votes in zip(found, explained, strict=True):
        assert prediction["class"] in NAMES
        listed = [(one["name"], one["class"]) for one in prediction["learners"]]
        assert listed == [(name, predicted) for name, predicted, _ in votes]
    assert main(["predict", run_dir, photos[0], "--explain"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{photos[0]}: ")
    assert [line.split() for line in lines] == [
        [name, predicted, f"{probability:.4f}"] for name, predicted, probability in explained[0]
    ]


def test_json_without_an_explanation_has_no_learners(
    saved_ensemble: Path, photos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(saved_ensemble), photos[0], "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)
    assert list(prediction) == ["image", "class", "probability"]


def test_bad_input_is_one_line(
    saved_ensemble: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for folder, image in ((tmp_path / "none", "a.png"), (saved_ensemble, tmp_path / "broken.png")):
        assert main(["predict", str(folder), str(image)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: expected ")
        assert error.count("\n") == 1
