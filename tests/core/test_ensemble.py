import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from distcel.core.ensemble import smart_ensemble
from distcel.core.quadrature import exact_product
from distcel.data.splits import Split
from distcel.experiment.errors import DivergedError, InvalidInputError
from distcel.experiment.types import Gradient, Recipe, SelectionParams
from distcel.train.loop import predict
from distcel.train.selection import SelectionTraining
from tests import made_data as data
from tests.cached_splits import made_split

CPU = torch.device("cpu")
PARAMS = SelectionParams(k=1, epsilon=1.0, m=20, lr=1.0, gradient="exact")
RECIPE = Recipe("adadelta", lr=1.0, epochs=12, batch_size=20, schedule="step")


def specialists(seed: int, n_classes: int = 4, per_class: int = 40) -> Split:
    """Learner i is correct for class i alone; on other samples its outputs are random."""
    labels = data.balanced(n_classes, per_class)
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(n_classes, 0.1), (len(labels), n_classes)).astype(np.float32)
    for i in range(n_classes):
        probs[labels == i, i] = np.eye(n_classes, dtype=np.float32)[i]
    return made_split(labels, probs, data.pictures(labels, 1, 16, seed))


def tensors(split: Split) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, predictions and labels."""
    images, probs = torch.from_numpy(split.images_SCHW), torch.from_numpy(split.probs_SNC)
    return images, probs, torch.from_numpy(split.labels_S)


def selection_net(n_learners: int = 4) -> nn.Module:
    class Standardise(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float() / 128 - 1

    torch.manual_seed(0)
    return nn.Sequential(
        Standardise(), nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, n_learners)
    )


class Scores(nn.Module):
    """A selection net with given scores for every image."""

    def __init__(self, scores_BN: torch.Tensor) -> None:
        super().__init__()
        self.scores_BN = nn.Parameter(scores_BN)

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.scores_BN


def training(
    train: Split,
    valid: Split,
    params: SelectionParams = PARAMS,
    recipe: Recipe = RECIPE,
    seed: int = 0,
) -> SelectionTraining:
    """A training of the smart ensemble with a small selection net."""
    generator = torch.Generator().manual_seed(seed)
    _, n_learners, n_classes = train.probs_SNC.shape
    ensemble = smart_ensemble(selection_net(), params, n_learners, n_classes, generator)
    return SelectionTraining(ensemble, train, valid, recipe, seed, CPU)


def test_the_prediction_is_equations_8_to_12() -> None:
    images_SCHW, probs_SNC, _ = tensors(specialists(0))
    net = selection_net()
    ensemble = smart_ensemble(net, replace(PARAMS, k=2), 4, 4)
    logits = ensemble(images_SCHW, probs_SNC)
    for image, probs, found in list(zip(images_SCHW, probs_SNC, logits, strict=True))[:20]:
        scores = net(image[None])[0]
        normalised = scores / scores.square().sum().sqrt()
        chosen = normalised.argsort(descending=True)[:2]
        torch.testing.assert_close(found, probs[chosen].sum(0))


def test_epsilon_is_relative_to_scores_of_norm_one() -> None:
    net = Scores(torch.tensor([[3.0, 2.5, 2.0, -4.0]]))
    upstream = torch.tensor([[1.0, -2.0, 0.5, 3.0]])
    mask = smart_ensemble(net, replace(PARAMS, k=2, epsilon=0.2), 4, 4).select(torch.zeros(1))
    (found,) = torch.autograd.grad((mask * upstream).sum(), net.scores_BN)
    normalised = net.scores_BN / net.scores_BN.square().sum().sqrt()
    through_layer = exact_product(normalised.detach(), upstream, 2, 0.2)
    (expected,) = torch.autograd.grad(normalised, net.scores_BN, through_layer)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0.01


def test_scores_of_zero_are_no_nan() -> None:
    net = selection_net()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    images_SCHW, probs_SNC, labels_S = tensors(specialists(0))
    logits = smart_ensemble(net, replace(PARAMS, k=2), 4, 4)(images_SCHW, probs_SNC)
    cross_entropy(logits, labels_S).backward()
    assert torch.isfinite(logits).all()
    for parameter in net.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_selecting_all_is_the_unweighted_average() -> None:
    images_SCHW, probs_SNC, _ = tensors(specialists(0))
    ensemble = smart_ensemble(selection_net(), replace(PARAMS, k=4), 4, 4)
    logits = predict(ensemble, images_SCHW, probs_SNC)
    np.testing.assert_allclose(logits / 4, probs_SNC.mean(1), rtol=1e-5)


@pytest.mark.parametrize("gradient", ["exact", "conditional", "paper"])
def test_the_selection_net_learns_which_learner_to_select(gradient: Gradient) -> None:
    params = replace(PARAMS, gradient=gradient, m=100)
    train, valid = specialists(0), specialists(1)
    selection = training(train, valid, params)
    results = [selection.run_epoch() for _ in range(RECIPE.epochs)]
    assert [result.epoch for result in results] == list(range(1, RECIPE.epochs + 1))
    averaged = float((valid.probs_SNC.mean(1).argmax(-1) == valid.labels_S).mean())
    assert averaged < 0.8
    assert results[-1].valid_accuracy > 0.95
    assert results[-1].train_loss < results[0].train_loss


def test_a_selection_net_learns_mirrored_images() -> None:
    def accuracy_on_mirrored(recipe: Recipe) -> float:
        train, valid = specialists(0), specialists(1)
        mirrored = replace(valid, images_SCHW=valid.images_SCHW[..., ::-1].copy())
        selection = training(train, mirrored, recipe=recipe)
        return [selection.run_epoch() for _ in range(recipe.epochs)][-1].valid_accuracy

    plain = replace(RECIPE, epochs=40)
    augmented = accuracy_on_mirrored(replace(plain, augmentation="flip"))
    assert augmented > accuracy_on_mirrored(plain) + 0.2


def test_only_one_softmax_is_between_the_vote_and_the_loss() -> None:
    # Of a perfect unanimous vote of k the cross entropy is log(1 + (C - 1) exp(-k)); a second
    # softmax would leave it above log(1 + (C - 1) / e) whatever k.
    split = specialists(0)
    perfect = np.eye(4, dtype=np.float32)[split.labels_S][:, None].repeat(4, 1)
    sure = replace(split, probs_SNC=perfect)
    params = replace(PARAMS, k=4)
    selection = training(sure, sure, params)
    assert selection.run_epoch().valid_loss == pytest.approx(np.log(1 + 3 * np.exp(-4)), rel=1e-4)


def test_the_same_seed_gives_bitwise_the_same_training() -> None:
    def run(seed: int) -> list[float]:
        train, valid = specialists(0), specialists(1)
        params = replace(PARAMS, gradient="conditional", m=2)
        selection = training(train, valid, params, seed=seed)
        return [selection.run_epoch().train_loss for _ in range(2)]

    assert run(0) == run(0) != run(1)


def test_a_finished_training_frees_its_memory_at_once() -> None:
    selection = training(specialists(0), specialists(1))
    selection.run_epoch()
    gone = weakref.ref(selection)
    gc.disable()  # on a GPU the next trial needs the memory before Python collects cycles
    try:
        del selection
        assert gone() is None
    finally:
        gc.enable()


def test_k_above_n_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected 1 <= k <= n = 4, but got 5"):
        training(specialists(0), specialists(1), replace(PARAMS, k=5))


def test_a_validation_loss_that_is_nan_ends_the_trial() -> None:
    valid = specialists(1)
    valid.probs_SNC[3, :, 2] = np.nan
    selection = training(specialists(0), valid)
    with pytest.raises(DivergedError, match="validation loss became nan"):
        selection.run_epoch()
