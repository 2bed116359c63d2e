from dataclasses import replace

import numpy as np
import pytest
import torch

from distcel.ensemble import DeviceSplit
from distcel.knapsack import KnapsackLayer
from distcel.learned_vote import LearnedVote, LearnedVoteRule, NetWithVotes, third_of
from distcel.predictions import CachedSplit
from distcel.types import SelectionParams
from tests.distcel.test_ensemble import CPU, selection_net, specialists
from tests.distcel.test_gating import task_of

SPLIT = DeviceSplit(specialists(0), CPU)
N, C = 4, 4


def ensemble(k: int) -> LearnedVote:
    return LearnedVote(NetWithVotes(selection_net(N), N, C, k), KnapsackLayer(k, 0.1, 1))


def test_the_vote_is_the_sum_over_the_selected_of_their_matrices() -> None:
    voting = ensemble(k=2)
    generator = torch.Generator().manual_seed(0)
    for parameter in (voting.net.matrices_NCC, voting.net.biases_NC):
        torch.nn.init.normal_(parameter, generator=generator)
    found = voting(SPLIT.images, SPLIT.probs)
    masks = voting.select(SPLIT.images)
    for mask, probs, logits in list(zip(masks, SPLIT.probs, found, strict=True))[:20]:
        expected = torch.zeros(C)
        for i in mask.nonzero()[:, 0]:
            logarithms = probs[i].clamp_min(1e-4).log()
            expected += logarithms @ voting.net.matrices_NCC[i] + voting.net.biases_NC[i]
        torch.testing.assert_close(logits, expected)


def test_it_begins_as_the_geometric_mean_of_the_selected() -> None:
    probs = torch.rand(SPLIT.probs.shape, generator=torch.Generator().manual_seed(0)) + 0.1
    probs /= probs.sum(-1, keepdim=True)
    voting = ensemble(k=N)
    expected = probs.log().mean(1).softmax(-1)
    torch.testing.assert_close(voting(SPLIT.images, probs).softmax(-1), expected)


def test_who_is_not_selected_is_not_heard() -> None:
    voting = ensemble(k=2)
    out_BN = voting.select(SPLIT.images) == 0
    changed = torch.where(out_BN[:, :, None], torch.rand_like(SPLIT.probs), SPLIT.probs)
    assert torch.equal(voting(SPLIT.images, changed), voting(SPLIT.images, SPLIT.probs))


def test_a_third_of_the_learners() -> None:
    assert [third_of(n) for n in (2, 3, 15, 28, 55)] == [1, 1, 5, 9, 18]


def test_it_understands_learners_that_call_every_class_by_another_name() -> None:
    def renamed(seed: int) -> CachedSplit:
        split = specialists(seed)
        return replace(split, probs_SNC=np.roll(split.probs_SNC, 1, axis=-1))

    task = replace(task_of(epochs=40), train=renamed(0), valid=renamed(1))
    rule = LearnedVoteRule(SelectionParams(2, 0.5, 1, 1.0, "exact"))
    plain = task.begin(rule.params, CPU)
    for _ in range(40):
        literal = plain.run_epoch().valid_accuracy
    (trained,) = rule.train(task, CPU, None)
    assert trained.valid_accuracy > 0.75 > 0.25 > literal
    said = rule.predict(trained, task, task.valid)
    right = said.argmax(-1) == torch.from_numpy(task.valid.labels_S)
    assert right.double().mean() == pytest.approx(trained.valid_accuracy)
    torch.testing.assert_close(said.sum(-1), torch.ones(len(said)))
