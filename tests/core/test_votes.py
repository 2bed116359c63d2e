from dataclasses import replace

import numpy as np
import pytest
import torch

from distcel.core.ensemble import LearnedVote, SummedVote, smart_ensemble
from distcel.data.splits import Split
from distcel.experiment.types import SelectionParams
from distcel.train.selection import predict_split
from tests.cached_splits import made_splits
from tests.core.test_ensemble import CPU, selection_net, specialists
from tests.rules.test_gating import task_of

N, C = 4, 4
PROBS = torch.from_numpy(specialists(0).probs_SNC)
# Two random learners of four for each image.
MASKS = torch.from_numpy(
    np.random.default_rng(0).permuted(np.eye(N)[:2].sum(0) * np.ones((160, 1)), axis=1)
).float()


def random_vote(k: int) -> LearnedVote:
    vote = LearnedVote(N, C, k)
    generator = torch.Generator().manual_seed(0)
    for parameter in vote.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return vote


def test_the_learned_vote_is_the_sum_over_the_selected_of_their_matrices() -> None:
    vote = random_vote(k=2)
    found = vote(MASKS, PROBS)
    for mask, probs, logits in list(zip(MASKS, PROBS, found, strict=True))[:20]:
        expected = torch.zeros(C)
        for i in mask.nonzero()[:, 0]:
            logarithms = probs[i].clamp_min(1e-4).log()
            expected += logarithms @ vote.matrices_NCC[i] + vote.biases_NC[i]
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("vote", [SummedVote(), random_vote(k=2)])
def test_the_vote_is_the_sum_of_the_selected_learners_contributions(
    vote: SummedVote | LearnedVote,
) -> None:
    one_by_one = torch.zeros(len(MASKS), C)
    for i in range(N):
        one_by_one += MASKS[:, i : i + 1] * vote.of_learner(i, PROBS[:, i])
    torch.testing.assert_close(vote(MASKS, PROBS), one_by_one)


def test_it_is_initially_the_geometric_mean_of_the_selected() -> None:
    probs = torch.rand(PROBS.shape, generator=torch.Generator().manual_seed(0)) + 0.1
    probs /= probs.sum(-1, keepdim=True)
    found = LearnedVote(N, C, k=N)(torch.ones(len(probs), N), probs).softmax(-1)
    torch.testing.assert_close(found, probs.log().mean(1).softmax(-1))


@pytest.mark.parametrize("vote", [SummedVote(), random_vote(k=2)])
def test_a_learner_that_is_not_selected_has_no_influence(vote: SummedVote | LearnedVote) -> None:
    changed = torch.where(MASKS[:, :, None] == 0, torch.rand_like(PROBS), PROBS)
    assert torch.equal(vote(MASKS, changed), vote(MASKS, PROBS))


def test_the_parameters_choose_the_vote() -> None:
    params = SelectionParams(2, 0.5, 1, 1.0, "exact")
    for name, kind in (("sum", SummedVote), ("learned", LearnedVote)):
        chosen = replace(params, vote=name)  # type: ignore[arg-type]
        assert type(smart_ensemble(selection_net(), chosen, N, C).vote) is kind


def test_it_learns_from_learners_whose_classes_are_permuted() -> None:
    def renamed(seed: int) -> Split:
        split = specialists(seed)
        return replace(split, probs_SNC=np.roll(split.probs_SNC, 1, axis=-1))

    task = replace(task_of(epochs=40), splits=made_splits(renamed(0), renamed(1)))
    params = SelectionParams(2, 0.5, 1, 1.0, "exact")
    summed = task.begin(params, CPU).run()
    selection = task.begin(replace(params, vote="learned"), CPU)
    learned = selection.run()
    # 84 % against 18 %: far more than another processor's rounding moves in 40 epochs.
    assert learned.valid_accuracy > summed.valid_accuracy + 0.3
    probs = predict_split(selection.ensemble, task.valid)
    right = probs.argmax(-1) == torch.from_numpy(task.valid.labels_S)
    assert right.double().mean() == pytest.approx(learned.valid_accuracy)
