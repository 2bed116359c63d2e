"""One selection net for every k: how it draws k, what it votes at each, and which k is chosen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from distcel.core.ensemble import AnyKEnsemble, smart_ensemble, sums_over_k
from distcel.core.networks import NetworkPlan
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.types import SelectionParams
from distcel.search.refit import SmartRule, choose_k
from distcel.train.loop import accuracy, predict
from distcel.train.selection import SelectionTraining, accuracy_over_k, best_k
from distcel.train.task import TrainingTask
from tests.cached_splits import made_splits
from tests.core.test_ensemble import CPU, RECIPE, specialists, tensors
from tests.search.test_search import EXPERIMENT

PARAMS = SelectionParams(k="any", epsilon=0.5, m=1, lr=1.0, gradient="exact")
PLAN = NetworkPlan(EXPERIMENT.network, (1, 16, 16), (0.5,), (0.25,))


class Scores(nn.Module):
    """A selection net whose scores are the images' first pixels."""

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.flatten(1)


def any_ensemble(n_learners: int, net: nn.Module | None = None, seed: int = 0) -> AnyKEnsemble:
    ensemble = smart_ensemble(net or Scores(), PARAMS, n_learners, 3, seed=seed)
    assert isinstance(ensemble, AnyKEnsemble)
    return ensemble


def drawn_ks(ensemble: AnyKEnsemble, count: int) -> list[int]:
    ensemble.train()
    n_learners, ks = ensemble.n_learners, []
    for _ in range(count):
        ensemble(torch.rand(2, 1, 1, n_learners), torch.rand(2, n_learners, 3))
        ks.append(ensemble.layer.k)
    return ks


def test_k_is_drawn_log_uniformly_from_1_to_n_for_each_batch() -> None:
    n_learners, count = 15, 8000
    counts = Counter(drawn_ks(any_ensemble(n_learners), count))
    assert set(counts) == set(range(1, n_learners + 1))
    for k, drawn in counts.items():
        share = np.log((k + 1) / k) / np.log(n_learners + 1)
        assert abs(drawn - count * share) < 5 * np.sqrt(count * share * (1 - share))


def test_the_seed_decides_the_draws() -> None:
    first, same, other = (drawn_ks(any_ensemble(15, seed=seed), 50) for seed in (0, 0, 1))
    assert first == same != other


def test_the_sums_of_every_k_are_the_votes_of_as_many_learners() -> None:
    torch.manual_seed(0)
    images_BCHW, probs_BNC = torch.rand(20, 1, 1, 6), torch.rand(20, 6, 3)
    ensemble = any_ensemble(6).eval()
    sums_BNC = sums_over_k(images_BCHW.flatten(1), probs_BNC)
    for k in range(1, 7):
        ensemble.layer.k = k
        torch.testing.assert_close(sums_BNC[:, k - 1], ensemble(images_BCHW, probs_BNC))


def test_in_training_the_logits_are_those_of_the_drawn_k_divided_by_its_root() -> None:
    images_BCHW, probs_BNC = torch.rand(20, 1, 1, 15), torch.rand(20, 15, 3)
    ensemble = any_ensemble(15).train()
    for _ in range(10):
        logits_BC = ensemble(images_BCHW, probs_BNC)
        k = ensemble.layer.k
        sums_BNC = sums_over_k(images_BCHW.flatten(1), probs_BNC)
        torch.testing.assert_close(logits_BC, sums_BNC[:, k - 1] * 3 / k**0.5)


def task_of(epochs: int) -> TrainingTask:
    recipe = replace(RECIPE, epochs=epochs)
    experiment = replace(EXPERIMENT, selector_recipe=recipe)
    return TrainingTask(experiment, PLAN, made_splits(specialists(0), specialists(1)), 0)


def test_an_epoch_reports_the_best_k_and_the_refit_votes_with_it() -> None:
    task = task_of(epochs=3)
    training = task.begin(PARAMS, CPU)
    trained = training.run()
    images, probs, labels = tensors(task.valid)
    assert isinstance(training.ensemble, AnyKEnsemble)
    over_k = accuracy_over_k(training.ensemble, images, probs, labels)
    assert len(over_k) == 4
    for k, found in enumerate(over_k, 1):
        training.ensemble.layer.k = k
        assert found == accuracy(predict(training.ensemble, images, probs), labels)
    assert trained.valid_accuracy == max(over_k) > min(over_k)

    params, again = choose_k(task, PARAMS, trained)
    assert again == over_k
    assert params == replace(PARAMS, k=best_k(over_k))
    classes_S = SmartRule(params).predict(trained, task, task.valid).argmax(-1).numpy()
    assert (classes_S == task.valid.labels_S).mean() == trained.valid_accuracy


def test_the_smallest_of_equal_ks_is_chosen_and_a_trained_one_stays() -> None:
    assert best_k([0.5, 0.75, 0.25, 0.75]) == 2
    task = task_of(epochs=1)
    one = replace(PARAMS, k=3)
    (network,) = SmartRule(one).train(task, CPU, None)
    assert choose_k(task, one, network) == (one, [])


def test_it_learns_to_select_the_one_learner_that_knows() -> None:
    """Learner i alone knows class i: at k = 1 the right one must be found, at k = n none can be."""
    net = task_of(1).selection_net(CPU)
    ensemble = any_ensemble(4, net)
    split = specialists(0)
    training = SelectionTraining(ensemble, split, specialists(1), RECIPE, 0, CPU)
    for _ in range(RECIPE.epochs):
        training.run_epoch()
    images, probs, labels = tensors(specialists(1))
    over_k = accuracy_over_k(ensemble, images, probs, labels)
    assert over_k[0] > 0.9 > over_k[3]


def test_a_learned_vote_is_of_one_k_and_an_unchosen_k_is_no_number() -> None:
    with pytest.raises(InvalidInputError, match="expected the vote sum with k = any"):
        replace(PARAMS, vote="learned")
    with pytest.raises(InvalidInputError, match="expected a k that is chosen, but got any"):
        _ = PARAMS.chosen_k
