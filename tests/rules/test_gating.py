from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from distcel.search_spaces.common import paper_space
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from distcel.core.knapsack import top_k_mask
from distcel.core.networks import NetworkPlan
from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Recipe, SelectionParams
from distcel.rules.gating import GatedEnsemble, SoftGating, StraightThrough
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import SelectionTraining, TrainingTask
from tests.cached_splits import made_splits
from tests.core.test_ensemble import (
    CPU,
    PARAMS,
    RECIPE,
    Scores,
    selection_net,
    specialists,
    tensors,
)


def task_of(epochs: int) -> TrainingTask:
    """The specialists, and a small network of the project's own to select among them."""
    experiment = Experiment(
        dataset="digits",
        image_size=None,
        specialty_share=0.5,
        architecture=Architecture("lenet", (2, 2)),
        learner_recipe=Recipe("adadelta", 1.0, 2, 16),
        selector_recipe=Recipe("adadelta", 1.0, epochs=epochs, batch_size=40),
        space=paper_space(0.1, 3.0),
        first_trial=SelectionParams(k=2, epsilon=0.5, m=20, lr=1.0, gradient="paper"),
        num_samples=5,
    )
    plan = NetworkPlan(experiment.network, (1, 16, 16), (0.5,), (0.25,))
    return TrainingTask(experiment, plan, made_splits(specialists(0), specialists(1)), seed=0)


def test_soft_gating_is_the_likelihood_of_the_mixture() -> None:
    images_SCHW, probs_SNC, labels_S = tensors(specialists(0))
    net = selection_net()
    logits = SoftGating(net)(images_SCHW, probs_SNC)
    weights = net(images_SCHW).exp()
    weights = weights / weights.sum(-1, keepdim=True)
    mixture = (weights[..., None] * probs_SNC).sum(1)
    torch.testing.assert_close(logits.softmax(-1), mixture, rtol=1e-4, atol=1e-6)
    own = mixture[torch.arange(len(mixture)), labels_S]
    torch.testing.assert_close(cross_entropy(logits, labels_S), -own.log().mean())


def test_soft_gating_of_learners_that_all_rule_the_label_out_is_finite() -> None:
    net = Scores(torch.zeros(1, 3))
    probs = torch.tensor([[[1.0, 0.0]] * 3])
    logits = SoftGating(net)(torch.zeros(1), probs)
    cross_entropy(logits, torch.tensor([1])).backward()
    assert logits.isfinite().all()
    assert net.scores_BN.grad is not None
    assert net.scores_BN.grad.isfinite().all()


def test_straight_through_is_the_hard_mask_forward_and_the_identity_backward() -> None:
    torch.manual_seed(0)
    net, upstream = Scores(torch.randn(7, 5)), torch.randn(7, 5)
    mask = StraightThrough(net, 2).select(torch.zeros(7))
    hard = top_k_mask(net.scores_BN.detach(), 2)
    assert mask.equal(hard)
    (found,) = torch.autograd.grad((mask * upstream).sum(), net.scores_BN)
    (expected,) = torch.autograd.grad(
        (normalize(net.scores_BN, dim=-1) * upstream).sum(), net.scores_BN
    )
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0.01


@pytest.mark.parametrize("gate", [SoftGating, partial(StraightThrough, k=1)])
def test_the_selection_net_learns_which_learner_to_select(
    gate: Callable[[nn.Module], nn.Module],
) -> None:
    train, valid, net = specialists(0), specialists(1), selection_net()
    trained = SelectionTraining(gate(net), train, valid, RECIPE, 0, CPU).run()
    assert trained.valid_accuracy > 0.95
    scores = net(torch.from_numpy(valid.images_SCHW))
    assert (scores.argmax(-1).numpy() == valid.labels_S).mean() > 0.9


@pytest.mark.parametrize("kind", ["soft_gating", "straight_through"])
def test_the_rule_is_trained_as_the_smart_ensemble_is_but_by_its_own_loss(kind: str) -> None:
    task, params = task_of(epochs=2), replace(PARAMS, k=2)
    rule = GatedEnsemble(kind, params)  # type: ignore[arg-type]
    smart, gated = task.begin(params, CPU), rule.begin(task, CPU)
    before = gated.ensemble.state_dict()
    for name, value in smart.ensemble.state_dict().items():
        assert value.equal(before[name])
    assert smart.training.optimizer.state_dict() == gated.training.optimizer.state_dict()
    assert smart.run_epoch().train_loss != gated.run_epoch().train_loss
    # Each drew the same order of the samples and nothing else.
    states = [run.training.generator.get_state() for run in (smart, gated)]
    assert states[0].equal(states[1])


@pytest.mark.parametrize("kind", ["soft_gating", "straight_through"])
def test_the_rule_votes_with_the_last_epochs_weights(kind: str) -> None:
    task = task_of(epochs=3)
    rule = GatedEnsemble(kind, PARAMS)  # type: ignore[arg-type]
    (trained,) = rule.train(task, CPU, None)
    assert [result.epoch for result in trained.epochs] == [1, 2, 3]
    again = TrainedNetwork.from_bytes(trained.to_bytes())
    assert again.epochs == trained.epochs
    probs = rule.predict(again, task, task.valid).numpy()
    assert probs.shape == (160, 4)
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-5)
    right = (probs.argmax(1) == task.valid.labels_S).mean()
    assert right == trained.valid_accuracy == trained.epochs[-1].valid_accuracy


def test_soft_gating_gives_the_mixture_and_straight_through_the_softmax_of_the_vote() -> None:
    task = task_of(epochs=1)
    (soft,) = GatedEnsemble("soft_gating", PARAMS).train(task, CPU, None)
    (hard,) = GatedEnsemble("straight_through", PARAMS).train(task, CPU, None)
    sure = np.eye(4, dtype=np.float32)[task.valid.labels_S][:, None].repeat(4, 1)
    sure_split = replace(task.valid, probs_SNC=sure)
    own = np.arange(len(sure_split.labels_S)), sure_split.labels_S
    # Unanimous learners: the mixture equals their outputs; a softmax over votes of 1 of k = 1.
    mixture = GatedEnsemble("soft_gating", PARAMS).predict(soft, task, sure_split).numpy()[own]
    np.testing.assert_allclose(mixture, 1, rtol=1e-6)
    vote = GatedEnsemble("straight_through", PARAMS).predict(hard, task, sure_split).numpy()[own]
    np.testing.assert_allclose(vote, np.e / (np.e + 3), rtol=1e-5)
