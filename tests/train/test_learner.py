from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Splits, load_splits
from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Progress
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import DivergedError
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SPLIT_NAMES, Experiment
from distcel.train import learner
from distcel.train.cache import TrainedLearner
from distcel.train.learner import learner_key, train_learner, training_priors
from distcel.train.loop import Training
from distcel.train.selection import TrainingTask
from tests.train.learners import Learners

EXPERIMENT = load_experiment("digits", "smoke")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    folder = tmp_path_factory.mktemp("digits")
    return load_splits(EXPERIMENT, folder, folder, seed=0)


def plan_of(splits: Splits, experiment: Experiment = EXPERIMENT) -> NetworkPlan:
    return NetworkPlan(experiment.network, splits.image_shape, *splits.channel_statistics())


def train(splits: Splits, experiment: Experiment, index: int, seed: int) -> TrainedLearner:
    task = TrainingTask(experiment, plan_of(splits, experiment), splits, seed)
    spec = learner_specs(splits.class_names)[index]
    *progress, trained = train_learner(spec, task, CPU, predicted=SPLIT_NAMES)
    epochs = [event.epoch for event in progress if isinstance(event, Progress)]
    assert epochs == list(range(1, experiment.learner_recipe.epochs + 1))
    assert isinstance(trained, TrainedLearner)
    return trained


def test_it_predicts_the_kept_splits_alone(splits: Splits) -> None:
    task = TrainingTask(EXPERIMENT, plan_of(splits), splits, seed=0)
    spec = learner_specs(splits.class_names)[0]
    *_, trained = train_learner(spec, task, CPU, predicted=["valid"])
    assert isinstance(trained, TrainedLearner)
    assert list(trained.probs_by_split) == ["valid"]


def test_a_learner_is_good_at_its_own_classes_and_poor_at_the_rest(splits: Splits) -> None:
    recipe = replace(EXPERIMENT.learner_recipe, epochs=8)
    trained = train(splits, replace(EXPERIMENT, learner_recipe=recipe), index=20, seed=0)
    classes = learner_specs(splits.class_names)[20].classes
    labels = splits["test"].labels_S
    correct = trained.probs_by_split["test"].argmax(1) == labels
    own = np.isin(labels, classes)
    assert correct[own].mean() > correct[~own].mean() + 0.5  # 97 % and 13 %


def test_predictions_are_softmax_outputs_for_every_sample(splits: Splits) -> None:
    trained = train(splits, EXPERIMENT, index=0, seed=0)
    for name in SPLIT_NAMES:
        probs = trained.probs_by_split[name]
        assert probs.shape == (len(splits[name].labels_S), 10)
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
        assert probs.min() >= 0


def test_the_same_seed_gives_bitwise_the_same_learner(splits: Splits) -> None:
    first, again, other = (train(splits, EXPERIMENT, 12, seed) for seed in (0, 0, 1))
    for name, value in first.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])
    np.testing.assert_array_equal(first.probs_by_split["test"], again.probs_by_split["test"])
    assert not np.array_equal(first.probs_by_split["test"], other.probs_by_split["test"])


def test_learners_of_the_same_seed_begin_differently(splits: Splits) -> None:
    slow = replace(EXPERIMENT, learner_recipe=replace(EXPERIMENT.learner_recipe, lr=1e-9))
    first, second = (train(splits, slow, index, seed=0).weights for index in (0, 1))
    assert not any(np.allclose(first[name], second[name]) for name in first if "weight" in name)


def test_a_learner_is_trained_on_augmented_images_if_its_recipe_has_augmentation(
    splits: Splits,
) -> None:
    flipping = replace(EXPERIMENT.learner_recipe, augmentation="flip")
    plain, flipped = (
        train(splits, replace(EXPERIMENT, learner_recipe=recipe), 0, 0).weights
        for recipe in (EXPERIMENT.learner_recipe, flipping)
    )
    assert not any(np.allclose(plain[name], flipped[name]) for name in plain if "weight" in name)


@pytest.mark.parametrize("place", ["torch.__version__", "distcel.train.learner.CACHE_VERSION"])
def test_a_learner_is_trained_anew_by_another_torch_or_cache_version(
    place: str, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = learner_specs(splits.class_names)[0]
    before = learner_key(EXPERIMENT, spec, splits, plan_of(splits), 0)
    monkeypatch.setattr(place, "2.99")
    assert learner_key(EXPERIMENT, spec, splits, plan_of(splits), 0) != before


def test_the_key_changes_with_everything_that_determines_a_learner(splits: Splits) -> None:
    specs = learner_specs(splits.class_names)
    recipe = EXPERIMENT.learner_recipe

    def key(
        experiment: Experiment = EXPERIMENT,
        index: int = 0,
        seed: int = 0,
        data: Splits = splits,
    ) -> str:
        return learner_key(experiment, specs[index], data, plan_of(data, experiment), seed)

    keys = [
        key(),
        key(index=1),
        key(seed=1),
        key(data=replace(splits, digest="other")),
        key(replace(EXPERIMENT, specialty_share=0.7)),
        key(replace(EXPERIMENT, learner_recipe=replace(recipe, epochs=2))),
        key(replace(EXPERIMENT, architecture=Architecture("lenet", (6, 17)))),
    ]
    assert len(set(keys)) == len(keys)
    # Settings of the search alone do not change the learners.
    assert key(replace(EXPERIMENT, num_samples=99, note="x")) == key()


@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_learners_are_trained_once_and_alike_by_every_executor(
    n_workers: int, splits: Splits, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """0 workers stand for this process, other numbers for Ray."""
    inline = Learners(splits, tmp_path / "inline")
    assert inline.train(InlineExecutor()) == inline.train(InlineExecutor()) + 4 == 4
    if n_workers == 0:
        damaged = inline.cache.path(inline.specs[2], inline.keys[2], "valid")
        content = bytearray(damaged.read_bytes())
        content[-100] ^= 1
        before = inline.probs().copy()
        damaged.unlink()
        damaged.write_bytes(content)
        inline.cache.path(inline.specs[3], inline.keys[3], "train").unlink()
        assert inline.train(InlineExecutor()) == 2
        np.testing.assert_array_equal(inline.probs(), before)
        return
    request.getfixturevalue("pool")
    on_ray = Learners(splits, tmp_path / "ray")
    assert on_ray.train(RayExecutor(lambda: WorkerPool(n_workers, 1.0, 0.0))) == 4
    np.testing.assert_array_equal(on_ray.probs(), inline.probs())


def test_an_interrupted_learner_continues_from_its_last_kept_epoch(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "_SECONDS_BETWEEN_STATES", 0.0)
    longer = replace(EXPERIMENT, learner_recipe=replace(EXPERIMENT.learner_recipe, epochs=4))
    undisturbed = Learners(splits, tmp_path / "undisturbed", longer, 1)
    undisturbed.train(InlineExecutor())

    run_epoch = Training.run_epoch
    epochs: list[int] = []

    def interrupted(training: Training) -> float:
        if training.epoch == 2 and 3 not in epochs:
            epochs.append(3)
            raise KeyboardInterrupt
        epochs.append(training.epoch + 1)
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", interrupted)
    disturbed = Learners(splits, tmp_path / "disturbed", longer, 1)
    with pytest.raises(KeyboardInterrupt):
        disturbed.train(InlineExecutor())
    disturbed.train(InlineExecutor())
    assert epochs == [1, 2, 3, 3, 4]
    np.testing.assert_array_equal(disturbed.probs(), undisturbed.probs())
    assert list((tmp_path / "disturbed" / "unfinished").iterdir()) == []


def test_a_learner_that_diverges_ends_the_training(splits: Splits, tmp_path: Path) -> None:
    recipe = replace(EXPERIMENT.learner_recipe, optimizer="sgd", lr=1e30)
    diverging = Learners(splits, tmp_path, replace(EXPERIMENT, learner_recipe=recipe), 2)
    with pytest.raises(DivergedError, match=r"learner .*became"):
        diverging.train(InlineExecutor())


def test_the_images_are_not_shared_if_no_learner_is_missing(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Learners(splits, tmp_path, n_learners=1)
    done.train(InlineExecutor())
    monkeypatch.setattr(InlineExecutor, "share", None)
    assert done.train(InlineExecutor()) == 0


def test_a_learners_prior_is_the_class_shares_of_the_samples_that_it_is_trained_on(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []

    def noted(network: Any, loss: Any, indices_S: torch.Tensor, *rest: Any) -> Training:
        drawn.append(indices_S.tolist())
        return Training(network, loss, indices_S, *rest)

    monkeypatch.setattr(learner, "Training", noted)
    train(splits, EXPERIMENT, 12, seed=3)
    labels_S, specs = splits["train"].labels_S, learner_specs(splits.class_names)
    priors_NC = training_priors(specs, labels_S, EXPERIMENT, 3)
    assert priors_NC.shape == (55, 10)
    shares = np.bincount(labels_S[drawn[0]], minlength=10) / len(drawn[0])
    np.testing.assert_array_equal(priors_NC[12], shares)
    assert priors_NC[12][list(specs[12].classes)].sum() == pytest.approx(0.732, abs=0.02)
