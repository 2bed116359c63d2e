import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from distcel.core.ensemble import smart_ensemble
from distcel.data.images import decode_images
from distcel.experiment.architecture import OwnArchitecture
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.types import VoteName
from distcel.serve import ensemble as serve
from distcel.serve.ensemble import Ensemble, ImageBatch
from distcel.serve.saved import FORMAT_VERSION, load_ensemble, save_ensemble
from distcel.storage.files import read_record, write_record
from tests import made_data as data
from tests.conftest import ENSEMBLE_PARAMS, NAMES, PLAN, save_untrained, untrained

LEARNERS = ("ant", "bee", "cow", "ant+bee", "ant+cow", "bee+cow")


def images(per_class: int = 5) -> NDArray[np.uint8]:
    return data.pictures(data.balanced(3, per_class), 3, 16, 0)


def learner_probs(batch: NDArray[np.uint8]) -> torch.Tensor:
    """What each of the six untrained learners predicts, (B, 6, 3)."""
    tensor = torch.from_numpy(batch)
    with torch.inference_mode():
        return torch.stack([PLAN.build(3, seed=i)(tensor).softmax(-1) for i in range(6)], dim=1)


class Scores(torch.nn.Module):
    """A selection net that scores the learners of one image otherwise than those of another."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        pixels = images_BCHW.flatten(1).float() - 60
        random = torch.Generator().manual_seed(0)
        return pixels @ torch.randn(pixels.shape[1], 6, generator=random)


@pytest.fixture
def loaded(saved_ensemble: Path) -> Ensemble:
    """An ensemble of six learners of which each image has a selection of its own."""
    loaded = load_ensemble(saved_ensemble)
    loaded.smart.selection_net = Scores()
    return loaded


@pytest.mark.parametrize("vote", ["sum", "learned"])
def test_a_loaded_ensemble_votes_like_the_one_on_cached_predictions(
    vote: VoteName, tmp_path: Path
) -> None:
    params = replace(ENSEMBLE_PARAMS, vote=vote)
    batch = torch.from_numpy(images(15))
    with torch.inference_mode():
        expected = untrained(params)(batch, learner_probs(images(15))).softmax(-1)
    loaded = load_ensemble(save_untrained(tmp_path / "ensemble", params))
    assert loaded.class_names == NAMES
    assert loaded.learner_names == LEARNERS
    torch.testing.assert_close(loaded(batch), expected)


@pytest.mark.parametrize("vote", ["sum", "learned"])
def test_a_pruned_ensemble_differs_only_where_a_learner_is_missing(
    vote: VoteName, tmp_path: Path
) -> None:
    params, kept, dropped = replace(ENSEMBLE_PARAMS, vote=vote), [0, 2, 4, 5], [1, 3]
    whole = load_ensemble(save_untrained(tmp_path / "whole", params))
    pruned = load_ensemble(save_untrained(tmp_path / "pruned", params, kept=kept))
    assert pruned.learner_names == tuple(LEARNERS[i] for i in kept)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("whole/learners/*")}
    for i in dropped:
        del files[f"{i:04d}.safetensors"]
    assert files == {path.name: path.read_bytes() for path in tmp_path.glob("pruned/learners/*")}

    whole.smart.selection_net = pruned.smart.selection_net = Scores()
    mask = whole.selected(images(15))
    is_same = ~mask[:, dropped].any(1)
    assert 5 < is_same.sum() < 40
    same, others = images(15)[is_same], images(15)[~is_same]
    np.testing.assert_array_equal(pruned.selected(same), mask[is_same][:, kept])
    np.testing.assert_array_equal(pruned.predict_proba(same), whole.predict_proba(same))
    assert pruned.explain(same) == whole.explain(same)
    best = np.argsort(-Scores()(torch.from_numpy(others)).numpy()[:, kept], axis=1)[:, :2]
    assert [np.flatnonzero(row).tolist() for row in pruned.selected(others)] == np.sort(
        best
    ).tolist()


def test_the_temperature_divides_the_logits_and_changes_no_prediction(tmp_path: Path) -> None:
    plain, tempered = (
        load_ensemble(save_untrained(tmp_path / f"{temperature}", ENSEMBLE_PARAMS, temperature))
        for temperature in (1.0, 1e-3)
    )
    logarithms = 1e3 * np.log(plain.predict_proba(images()).astype(np.float64))
    powers = np.exp(logarithms - logarithms.max(1, keepdims=True))
    expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(tempered.predict_proba(images()), expected, atol=1e-3)
    assert tempered.predict(images()) == plain.predict(images())


def test_arrays_tensors_and_batches_give_the_same(
    loaded: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = images()
    expected = loaded(torch.from_numpy(batch)).numpy()
    monkeypatch.setattr(serve, "_BATCH", 4)
    batch.setflags(write=False)  # as a memory-mapped file is
    for given in (batch, torch.tensor(batch)):
        probs = loaded.predict_proba(given)
        np.testing.assert_allclose(probs, expected, rtol=1e-5)
        assert probs.dtype == np.float32
        assert loaded.predict(given) == [NAMES[c] for c in expected.argmax(-1)]
    mask = loaded.selected(batch)
    assert mask.dtype == np.bool_
    assert mask.shape == (15, 6)
    assert set(mask.sum(1)) == {2}


def test_nothing_gives_nothing(saved_ensemble: Path) -> None:
    loaded = load_ensemble(saved_ensemble)
    nothing: list[ImageBatch] = [images()[:0], []]
    for given in nothing:
        assert loaded.predict_proba(given).shape == (0, 3)
        assert loaded.selected(given).shape == (0, 6)
        assert loaded.predict(given) == []
        assert loaded.explain(given) == []


def test_an_explanation_names_the_selected_learners_and_what_each_predicts(
    loaded: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_BATCH", 4)
    batch = images()
    probs, mask = learner_probs(batch), loaded.selected(batch)
    explained = loaded.explain(batch)
    assert len(explained) == 15
    for votes, probs_NC, mask_N in zip(explained, probs, mask, strict=True):
        own = [(LEARNERS[i], probs_NC[i]) for i in np.flatnonzero(mask_N)]
        expected = [(name, NAMES[int(probs_C.argmax())]) for name, probs_C in own]
        assert [(name, predicted) for name, predicted, _ in votes] == expected
        highest = [float(probs_C.max()) for _, probs_C in own]
        assert [probability for _, _, probability in votes] == pytest.approx(highest)
    assert len({name for votes in explained for name, _, _ in votes}) > 2


def test_files_are_decoded_at_any_size(
    saved_ensemble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_BATCH", 4)
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    loaded = load_ensemble(saved_ensemble)
    found = loaded.predict(paths)
    decoded = decode_images(paths, "RGB", 16)
    assert found == loaded.predict(decoded)
    assert len(set(found)) > 1
    assert loaded.explain([str(path) for path in paths]) == loaded.explain(decoded)
    assert loaded.predict(str(paths[0])) == found[:1]
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InvalidInputError, match=r"broken\.png"):
        loaded.predict([tmp_path / "broken.png"])


def test_files_are_not_squeezed_into_a_shape_without_a_square(
    saved_ensemble: Path, tmp_path: Path
) -> None:
    data.write_images(tmp_path / "photos", NAMES, 2, 3, 40, 0)
    ensemble = load_ensemble(saved_ensemble)
    ensemble.plan = replace(ensemble.plan, image_shape=(3, 16, 20))
    with pytest.raises(InvalidInputError, match=r"images of 16 x 20 pixels, but got \(40, 40\)"):
        ensemble.predict(sorted((tmp_path / "photos").rglob("*.png")))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images() / 255, "expected images of dtype uint8, values from 0 to 255, but got float64"),
        (torch.zeros(2, 3, 16, 16), "but got float32: convert them"),
        (images()[0], r"but got \(3, 16, 16\): give a batch, images\[None\]"),
        (images()[:, :1], r"images of shape \(B, 3, 16, 16\), but got \(15, 1, 16, 16\): resize"),
        (images().transpose(0, 2, 3, 1), r"but got \(15, 16, 16, 3\): resize or transpose them"),
        ([images()[0]], r"or as a list of paths, but got 'a list with ndarray': stack arrays"),
    ],
)
def test_other_images_are_refused_in_one_line(
    wrong: Any, message: str, saved_ensemble: Path
) -> None:
    loaded = load_ensemble(saved_ensemble)
    for ask in (loaded.predict, loaded.predict_proba, loaded.selected, loaded.explain):
        with pytest.raises(InvalidInputError, match=message) as caught:
            ask(wrong)
        assert "\n" not in str(caught.value)


def test_learners_that_are_not_selected_are_not_run(loaded: Ensemble) -> None:
    image = images()[5:6]
    for ask in (loaded.predict, loaded.explain):
        assert _that_ran(loaded, ask, image) == np.flatnonzero(loaded.selected(image)[0]).tolist()


def _that_ran(loaded: Ensemble, ask: Any, image: NDArray[np.uint8]) -> list[int]:
    ran: list[int] = []
    hooks = [
        learner.register_forward_hook(lambda *_, i=i: ran.append(i))
        for i, learner in enumerate(loaded.learners)
    ]
    ask(image)
    for hook in hooks:
        hook.remove()
    return ran


def test_a_run_directory_is_as_good_as_its_ensemble(saved_ensemble: Path) -> None:
    of_run, of_folder = load_ensemble(saved_ensemble.parent), load_ensemble(str(saved_ensemble))
    np.testing.assert_array_equal(of_run.predict_proba(images()), of_folder.predict_proba(images()))


def test_its_repr_is_one_line(saved_ensemble: Path) -> None:
    found = repr(load_ensemble(saved_ensemble))
    assert found == "Ensemble(k=2 of 6 learners, 3 classes, images 3x16x16)"


def test_a_folder_without_an_ensemble_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"whose ensemble/ has it, but got .*finished"):
        load_ensemble(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ensemble.json", b"{"),
        ("ensemble.json", b"[]"),
        ("ensemble.json", b"{}"),
        ("smart_ensemble.safetensors", b"\0"),
        ("learners/0003.safetensors", None),
        ("learners/0003.safetensors", b"\x99" * 40),
    ],
)
def test_a_damaged_ensemble_is_refused_in_one_line(
    name: str, content: bytes | None, saved_ensemble: Path
) -> None:
    if content is None:
        (saved_ensemble / name).unlink()
    else:
        (saved_ensemble / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match="expected an ensemble as it was saved") as caught:
        load_ensemble(saved_ensemble)
    assert "\n" not in str(caught.value)


def test_every_flipped_bit_of_an_ensemble_is_noticed(saved_ensemble: Path) -> None:
    random = np.random.default_rng(0)
    for path in (path for path in sorted(saved_ensemble.rglob("*")) if path.is_file()):
        content = path.read_bytes()
        for place in random.integers(0, len(content), 5):
            damaged = bytearray(content)
            damaged[place] ^= 1 << random.integers(0, 8)
            path.write_bytes(damaged)
            with pytest.raises(InvalidInputError, match="expected an ensemble as it was"):
                load_ensemble(saved_ensemble)
        path.write_bytes(content)
    load_ensemble(saved_ensemble)


def test_the_digest_covers_the_names_of_the_classes(saved_ensemble: Path) -> None:
    path = saved_ensemble / "ensemble.json"
    path.write_text(path.read_text().replace('"cow"', '"cox"', 1))  # one bit, and still JSON
    with pytest.raises(InvalidInputError, match="content does not match its digest"):
        load_ensemble(saved_ensemble)


@pytest.mark.parametrize("version", [None, FORMAT_VERSION + 1])
def test_an_ensemble_of_another_format_is_refused(
    version: int | None, saved_ensemble: Path
) -> None:
    facts = read_record(saved_ensemble / "ensemble.json")
    write_record(saved_ensemble / "ensemble.json", {**facts, "format_version": version})
    with pytest.raises(InvalidInputError, match=f"an ensemble of format 1, but got {version}"):
        load_ensemble(saved_ensemble)


def test_weights_of_other_networks_are_refused_in_one_line(saved_ensemble: Path) -> None:
    source = saved_ensemble / "smart_ensemble.safetensors"
    (saved_ensemble / "learners" / "0001.safetensors").write_bytes(source.read_bytes())
    with pytest.raises(InvalidInputError, match="expected an ensemble as it was saved") as caught:
        load_ensemble(saved_ensemble)
    assert "\n" not in str(caught.value)


def own_network(n_outputs: int, image_shape: tuple[int, int, int]) -> torch.nn.Module:
    n_pixels = math.prod(image_shape)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n_pixels, n_outputs))


def test_an_ensemble_of_the_users_own_networks_is_loaded_with_their_function(
    tmp_path: Path,
) -> None:
    plan = replace(PLAN, architecture=OwnArchitecture(own_network, "1"))
    smart = smart_ensemble(plan.build(6, seed=9), ENSEMBLE_PARAMS, 6, 3)
    names = [spec.name for spec in learner_specs(NAMES)]
    learners = [(name, plan.build(3, seed=i).state_dict()) for i, name in enumerate(names)]
    save_ensemble(tmp_path, plan, ENSEMBLE_PARAMS, NAMES, smart.state_dict(), learners)
    with pytest.raises(InvalidInputError, match=r"the function own_network .*architecture="):
        load_ensemble(tmp_path)
    loaded = load_ensemble(tmp_path, own_network)
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    assert loaded.selected(images).sum(1).tolist() == [2] * 4
