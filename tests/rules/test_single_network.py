from dataclasses import replace

import numpy as np
import pytest
import torch

from distcel.data.subsets import specialised_indices
from distcel.execute.jobs import Progress
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.types import Augmentation, Recipe, Schedule
from distcel.rules.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import count_samples
from distcel.train.selection import TrainingTask
from tests import made_data as data
from tests.cached_splits import made_splits
from tests.core.test_ensemble import CPU
from tests.rules.test_gating import task_of

FIT = task_of(epochs=3)


def trained(task: TrainingTask, epochs: int) -> TrainedNetwork:
    *_, network = SingleNetwork(epochs, 1.0).train(task, CPU, None)
    assert isinstance(network, TrainedNetwork)
    return network


def with_recipe(
    task: TrainingTask, schedule: Schedule = "constant", augmentation: Augmentation = "none"
) -> TrainingTask:
    recipe = replace(
        task.experiment.selector_recipe, schedule=schedule, augmentation=augmentation, epochs=1
    )
    return replace(task, experiment=replace(task.experiment, selector_recipe=recipe))


def test_the_ensembles_sample_passes_by_hand() -> None:
    # Three classes of 40: a learner of one class has its 40 and as many others, a learner of two
    # all of the other class and as many of its own. Two epochs each, and the selection net's three.
    labels = data.balanced(3, 40)
    specs = learner_specs(("a", "b", "c"))
    counts = count_samples(labels, specs, FIT.experiment, "train", 0)
    assert ensemble_passes(FIT.experiment, counts) == 6 * 80 * 2 + 120 * 3


def test_the_sample_passes_do_not_depend_on_the_learners_seeds() -> None:
    labels = np.repeat(np.arange(4), [31, 17, 8, 5])
    experiment = replace(FIT.experiment, specialty_share=0.552)
    specs = learner_specs(("a", "b", "c", "d"))
    sizes = [len(specialised_indices(labels, spec, 0.552, seed)) for seed, spec in enumerate(specs)]
    counts = count_samples(labels, specs, experiment, "train", 0)
    assert ensemble_passes(experiment, counts) == 2 * sum(sizes) + 3 * 61


def test_the_copies_of_crossfit_are_counted() -> None:
    # Three folds leave every copy two thirds of the samples, and as much of every class.
    labels, specs = data.balanced(3, 30), learner_specs(("a", "b", "c"))
    counts = count_samples(labels, specs, FIT.experiment, "crossfit", 0)
    learners = (6 * 60 + 3 * 6 * 40) * 2
    assert ensemble_passes(FIT.experiment, counts) == learners + 90 * 3


def test_the_budget_is_rounded_up_to_whole_epochs() -> None:
    assert [epochs_of(passes, 100) for passes in (1, 100, 101, 250)] == [1, 1, 2, 3]


def test_the_network_learns_the_images_and_uses_no_learner() -> None:
    network = trained(FIT, 40)
    assert [result.epoch for result in network.epochs] == list(range(1, 41))
    assert network.valid_accuracy > 0.95
    silent = replace(FIT.valid, probs_SNC=np.zeros_like(FIT.valid.probs_SNC))
    probs = SingleNetwork(40, 1.0).predict(network, FIT, silent).numpy()
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    assert (probs.argmax(1) == silent.labels_S).mean() == network.valid_accuracy


def test_the_epoch_best_on_valid_is_kept() -> None:
    # Of these labels the network has the fewer correct the more it learns.
    other = replace(FIT.valid, labels_S=(FIT.valid.labels_S + 1) % 4)
    task = replace(FIT, splits=made_splits(FIT.train, other))
    network = trained(task, 6)
    accuracies = [result.valid_accuracy for result in network.epochs]
    assert network.valid_accuracy == max(accuracies) > accuracies[-1]
    probs = SingleNetwork(6, 1.0).predict(network, task, other).numpy()
    assert (probs.argmax(1) == other.labels_S).mean() == max(accuracies)


def test_of_equally_good_epochs_the_earliest_is_kept() -> None:
    # An untrained network predicts this class for all samples or for none.
    missed = replace(FIT.valid, labels_S=np.full(160, 3))
    one = missed.where(np.arange(160) < 1)
    few = replace(FIT, splits=made_splits(FIT.train, one))
    run = SingleNetwork(9, 1.0).begin(few, CPU)
    weights = []
    for _ in range(9):
        run.run_epoch()
        weights.append(run.training.network.state_dict()["body.0.weight"].clone())
    assert run.best is not None
    accuracies = [result.valid_accuracy for result in run.best.epochs]
    first = accuracies.index(max(accuracies))
    assert accuracies.count(max(accuracies)) > 1
    np.testing.assert_array_equal(run.best.weights["body.0.weight"], weights[first].numpy())


def test_it_has_the_selection_nets_recipe_at_the_given_lr() -> None:
    recipe = Recipe("adam", 1.0, epochs=3, batch_size=32, weight_decay=0.125)
    task = replace(FIT, experiment=replace(FIT.experiment, selector_recipe=recipe))
    run = SingleNetwork(5, 0.25).begin(task, CPU)
    assert isinstance(run.training.optimizer, torch.optim.Adam)
    (group,) = run.training.optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    assert run.training.n_batches == len(FIT.train.labels_S) / 32


def test_a_one_cycle_schedule_spans_all_epochs() -> None:
    run = SingleNetwork(5, 1.0).begin(with_recipe(FIT, schedule="one_cycle"), CPU)
    assert run.training.schedule.state_dict()["total_steps"] == 5 * run.training.n_batches


def test_a_step_schedule_ends_where_the_selection_nets_does() -> None:
    task = with_recipe(FIT, schedule="step")
    run = SingleNetwork(5, 1.0).begin(task, CPU)
    for _ in range(5):
        run.run_epoch()
    (lr,) = run.training.schedule.get_last_lr()
    assert lr == pytest.approx(0.9)  # the selection net's, after its one epoch


def test_the_images_are_augmented_as_the_selection_nets_are() -> None:
    plain = trained(with_recipe(FIT), 1).epochs[0].train_loss
    flipped = trained(with_recipe(FIT, augmentation="flip"), 1).epochs[0].train_loss
    assert plain != flipped


def test_a_continued_training_ends_as_if_without_a_break() -> None:
    task = with_recipe(FIT, schedule="one_cycle", augmentation="crop")
    rule = SingleNetwork(4, 1.0)
    events = list(rule.train(task, CPU, None, seconds_between_states=0.0))
    whole = events[-1]
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.epoch for event in progress] == [1, 2, 3]
    resumed = list(rule.train(task, CPU, progress[1].state))[-1]
    assert isinstance(whole, TrainedNetwork)
    assert isinstance(resumed, TrainedNetwork)
    assert resumed.epochs[:2] == whole.epochs[:2]
    assert [e.train_loss for e in resumed.epochs] == [e.train_loss for e in whole.epochs]
    for name, value in whole.weights.items():
        assert torch.equal(torch.tensor(value), torch.tensor(resumed.weights[name]))
