import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distcel.data.splits import Probabilities, Splits, load_splits
from distcel.data.subsets import Fold, held_out_parts, hold_out
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES, SplitName
from distcel.storage.files import DamagedFileError
from distcel.storage.provenance import describe_worker, source_digest
from distcel.train.cache import PredictionCache, TrainedLearner, cross_fitted
from distcel.train.checkpoint import Weights

SPEC = LearnerSpec("cat / dog", (3, 5))


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(load_experiment("digits", "smoke"), folder, folder, seed=0)


def probabilities(splits: Splits, seed: int) -> dict[SplitName, Probabilities]:
    random = np.random.default_rng(seed)
    return {
        name: random.dirichlet(np.ones(10), len(splits[name].labels_S)).astype(np.float32)
        for name in SPLIT_NAMES
    }


def test_predictions_are_stacked_in_the_order_of_the_learners(
    splits: Splits, tmp_path: Path
) -> None:
    cache = PredictionCache(tmp_path)
    other = LearnerSpec("owl", (7,))
    first, second = probabilities(splits, 0), probabilities(splits, 1)
    weights: Weights = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    cache.write(SPEC, "k1", splits, TrainedLearner(first, weights, 1.5))
    cache.write(other, "k2", splits, TrainedLearner(second, weights, 0.25))
    assert cache.holds(SPEC, "k1")
    assert not cache.holds(SPEC, "k2")
    loaded = cache.load([other, SPEC], ["k2", "k1"], splits["valid"], "valid")
    np.testing.assert_array_equal(loaded.probs_SNC[:, 0], second["valid"])
    np.testing.assert_array_equal(loaded.probs_SNC[:, 1], first["valid"])
    np.testing.assert_array_equal(loaded.labels_S, splits["valid"].labels_S)
    np.testing.assert_array_equal(cache.weights(SPEC, "k1")["fc.weight"], weights["fc.weight"])
    trained = cache.trainings([other, SPEC], ["k2", "k1"])
    assert [seconds for seconds, _ in trained] == [0.25, 1.5]


def test_each_file_has_the_facts_of_its_worker(splits: Splits, tmp_path: Path) -> None:
    cache = PredictionCache(tmp_path)
    elsewhere = {"node": "elsewhere", "cpu_capability": "AVX2"}
    cache.write(SPEC, "here", splits, TrainedLearner(probabilities(splits, 0), {}, 1.0))
    cache.write(SPEC, "there", splits, TrainedLearner(probabilities(splits, 0), {}, 1.0, elsewhere))
    trained = cache.trainings([SPEC, SPEC], ["here", "there"])
    assert [worker for _, worker in trained] == [describe_worker(), elsewhere]
    for path in tmp_path.glob("*/*-there.arrow"):
        metadata = pa.ipc.open_file(pa.memory_map(str(path))).schema.metadata
        assert json.loads(metadata[b"worker"]) == elsewhere


def test_a_file_is_read_with_pyarrow_alone(splits: Splits, tmp_path: Path) -> None:
    cache = PredictionCache(tmp_path)
    probs = probabilities(splits, 0)
    cache.write(SPEC, "key", splits, TrainedLearner(probs, {}, 1.0))
    (path,) = (tmp_path / "test").glob("*.arrow")
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.schema.field("probabilities").type == pa.list_(pa.float32(), 10)
    assert table["sample_id"].to_pylist() == splits["test"].sample_ids.to_pylist()
    assert table["label"].to_pylist() == splits["test"].labels_S.tolist()
    assert table.schema.metadata[b"learner"] == b"cat / dog"
    assert table.schema.metadata[b"source_digest"].decode() == source_digest()


@pytest.mark.parametrize("place", ["train", "valid", "test", "weights"])
@pytest.mark.parametrize("damage", ["missing", "flipped"])
def test_a_learner_with_any_file_missing_or_damaged_is_not_held(
    place: str, damage: str, splits: Splits, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PredictionCache(tmp_path)
    weights: Weights = {"w": np.zeros(3, np.float32)}
    cache.write(SPEC, "key", splits, TrainedLearner(probabilities(splits, 0), weights, 1.0))
    (path,) = (p for p in (tmp_path / place).iterdir() if p.suffix != ".blake2b")
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[-9] ^= 16
        path.write_bytes(content)
    assert not cache.holds(SPEC, "key")
    kept_aside = path.with_name(f"{path.name}.damaged").exists()
    assert kept_aside == (damage == "flipped")
    assert ("is damaged" in caplog.text) == (damage == "flipped")


def test_predictions_of_other_samples_are_refused(splits: Splits, tmp_path: Path) -> None:
    cache = PredictionCache(tmp_path)
    cache.write(SPEC, "key", splits, TrainedLearner(probabilities(splits, 0), {}, 1.0))
    with pytest.raises(DamagedFileError, match="its samples are not those of the valid split"):
        cache.load([SPEC], ["key"], splits["test"], "valid")


def test_each_sample_is_predicted_by_the_copies_of_its_own_fold(
    splits: Splits, tmp_path: Path
) -> None:
    specs = [LearnerSpec("first", (0,)), LearnerSpec("second", (1,))]
    cache, folds = PredictionCache(tmp_path, ("holdout",)), []
    for number, part in enumerate(held_out_parts(splits["train"].labels_S, "crossfit", 0)):
        folds.append(Fold(part, (f"a{number}", f"b{number}")))
        rest = hold_out(splits, part)
        for i, (spec, key) in enumerate(zip(specs, folds[-1].keys, strict=True)):
            probs = np.full((part.sum(), 10), 10 * i + number, np.float32)
            cache.write(spec, key, rest, TrainedLearner({"holdout": probs}, {}, 1.0))
    found = cross_fitted(cache, specs, folds, splits["train"])
    assert found.probs_SNC.dtype == np.float32
    np.testing.assert_array_equal(found.labels_S, splits["train"].labels_S)
    for number, fold in enumerate(folds):
        assert (found.probs_SNC[fold.held_out_S, 0] == number).all()
        assert (found.probs_SNC[fold.held_out_S, 1] == 10 + number).all()
    # The predictions of another fold are of other samples and are refused.
    swapped = [Fold(folds[0].held_out_S, folds[1].keys), *folds[1:]]
    with pytest.raises(DamagedFileError, match="its samples are not those of the holdout split"):
        cross_fitted(cache, specs, swapped, splits["train"])
