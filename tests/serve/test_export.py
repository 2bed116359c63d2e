"""Exported programs predict what the ensemble does; the documents' example needs no distcel."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor

from distcel.cli.main import main
from distcel.serve import export
from distcel.serve.saved import load_ensemble
from tests import made_data as data
from tests.conftest import ENSEMBLE_PARAMS, save_untrained
from tests.docs.markdown import ROOT, blocks

_WITHOUT_DISTCEL = "import sys; sys.modules['distcel'] = None\n"


def example() -> str:
    """The page's example of the sparse ensemble."""
    found = blocks((ROOT / "docs" / "serving.md").read_text())
    (text,) = [block.text for block in found if "torch.export.load" in block.text]
    return text


def test_the_example_runs_without_distcel_and_predicts_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "runs" / "first"
    params = replace(ENSEMBLE_PARAMS, vote="learned")
    save_untrained(run_dir / "ensemble", params, temperature=0.5, kept=[0, 2, 3, 5])
    assert main(["export", str(run_dir)]) == 0
    folder = run_dir / "torch-export"
    assert capsys.readouterr().out == f"{folder}: the selection net and 4 learners\n"

    data.write_images(tmp_path / "photos", ("ant",), 1, 3, 40, 0)
    (photo,) = (tmp_path / "photos").rglob("*.png")
    photo.rename(tmp_path / "photo.png")
    ensemble = load_ensemble(run_dir)
    selected = ensemble.selected([tmp_path / "photo.png"])[0]
    for i, learner in enumerate(json.loads((folder / "export.json").read_text())["learners"]):
        assert learner["name"] == ensemble.learner_names[i]
        if not selected[i]:  # the example runs without them
            (folder / learner["file"]).unlink()
    code = _WITHOUT_DISTCEL + example()
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (probs_C,) = ensemble.predict_proba([tmp_path / "photo.png"])
    name, probability = ran.stdout.split()
    assert name == ensemble.class_names[int(probs_C.argmax())]
    assert float(probability) == pytest.approx(float(probs_C.max()), abs=2e-4)


def of_torch(path: Path) -> Callable[[Tensor], Tensor]:
    program: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return program


def of_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


@pytest.mark.parametrize(
    ("name", "suffix", "load"), [("torch-export", "pt2", of_torch), ("onnx", "onnx", of_onnx)]
)
def test_each_program_has_its_own_learners_weights_and_takes_any_batch(
    name: str, suffix: str, load: Callable[[Path], Callable[[Tensor], Tensor]], saved_ensemble: Path
) -> None:
    assert main(["export", str(saved_ensemble), "--format", name]) == 0
    ensemble, folder = load_ensemble(saved_ensemble), saved_ensemble / name
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.inference_mode():
        scores = load(folder / f"selection_net.{suffix}")(images)
        expected = torch.nn.functional.normalize(ensemble.smart.selection_net(images))
        torch.testing.assert_close(scores, expected)
        for i, learner in enumerate(ensemble.learners):
            program = load(folder / "learners" / f"{i:04d}.{suffix}")
            for batch in (images, images[:1]):
                torch.testing.assert_close(program(batch), learner(batch).softmax(-1))


def test_onnx_without_the_extra_names_it(
    saved_ensemble: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda _: None)
    assert main(["export", str(saved_ensemble), "--format", "onnx"]) == 2
    remedy = "pip install 'distcel[onnx]'"
    expected = f"expected the package onnxscript for --format onnx, but got None: {remedy}"
    assert capsys.readouterr().err == f"error: {expected}\n"


def test_another_format_is_refused_in_one_line(
    saved_ensemble: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(saved_ensemble), "--format", "pickle"]) == 2
    assert capsys.readouterr().err.startswith("error: expected format in ('torch-export',")
    assert not (saved_ensemble / "pickle").exists()
