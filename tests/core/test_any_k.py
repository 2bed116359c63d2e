"""One selection net for every k: the draws of k, the votes at each k, and the chosen k."""

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
from distcel.train.selection import SelectionTraining, TrainingTask, accuracy_over_k, best_k
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


def test_every_batch_has_a_k_from_each_quarter_and_all_are_log_uniform() -> None:
    n_learners, n_batches = 15, 2000
    ensemble = any_ensemble(n_learners)
    drawn = [ensemble.draw_ks() for _ in range(n_batches)]
    counts, count = Counter(k for ks in drawn for k in ks), 4 * n_batches
    assert set(counts) == set(range(1, n_learners + 1))
    for k, times in counts.items():
        share = np.log((k + 1) / k) / np.log(n_learners + 1)
        assert abs(times - count * share) < 5 * np.sqrt(count * share)
    for ks in drawn:  # 16^(1/4) is 2
        assert [k.bit_length() for k in ks] == [1, 2, 3, 4]


def test_the_draws_depend_on_the_seed() -> None:
    first, same, other = (any_ensemble(15, seed=seed) for seed in (0, 0, 1))
    draws = [[one.draw_ks() for _ in range(9)] for one in (first, same, other)]
    assert draws[0] == draws[1] != draws[2]


def test_the_sums_of_every_k_are_the_votes_of_as_many_learners() -> None:
    torch.manual_seed(0)
    images_BCHW, probs_BNC = torch.rand(20, 1, 1, 6), torch.rand(20, 6, 3)
    ensemble = any_ensemble(6).eval()
    sums_BNC = sums_over_k(images_BCHW.flatten(1), probs_BNC)
    for k in range(1, 7):
        ensemble.layer.k = k
        torch.testing.assert_close(sums_BNC[:, k - 1], ensemble(images_BCHW, probs_BNC))


@pytest.mark.parametrize("n_samples", [20, 3])
def test_in_training_each_part_votes_with_its_own_k_and_logits_are_divided_by_its_root(
    n_samples: int,
) -> None:
    images_BCHW, probs_BNC = torch.rand(n_samples, 1, 1, 15), torch.rand(n_samples, 15, 3)
    logits_BC = any_ensemble(15).train()(images_BCHW, probs_BNC)
    assert logits_BC.shape == (n_samples, 3)
    sums_BNC = sums_over_k(images_BCHW.flatten(1), probs_BNC)
    parts = zip(logits_BC.chunk(4), sums_BNC.chunk(4), any_ensemble(15).draw_ks(), strict=False)
    for logits, sums, k in parts:
        torch.testing.assert_close(logits, sums[:, k - 1] * 3 / k**0.5)


def test_the_gradient_of_each_part_is_that_of_its_own_k() -> None:
    images_BCHW, probs_BNC = torch.rand(8, 1, 1, 15), torch.rand(8, 15, 3)
    images_BCHW.requires_grad_()
    any_ensemble(15).train()(images_BCHW, probs_BNC)[:, 0].sum().backward()
    assert images_BCHW.grad is not None
    ks = any_ensemble(15).draw_ks()
    for part, k in enumerate(ks):
        own = images_BCHW[2 * part : 2 * part + 2].detach().requires_grad_()
        one = smart_ensemble(Scores(), replace(PARAMS, k=k), 15, 3).train()
        one(own, probs_BNC[2 * part : 2 * part + 2])[:, 0].sum().backward()
        assert own.grad is not None
        found = images_BCHW.grad[2 * part : 2 * part + 2]
        torch.testing.assert_close(found, own.grad * 3 / k**0.5)


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


def test_it_learns_to_select_the_one_learner_that_is_correct() -> None:
    """Learner i alone is correct for class i: k = 1 has to find it, k = n selects nothing."""
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
