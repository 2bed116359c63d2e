"""Predictions of scikit-learn's classifiers, functions and files of networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB
from torch import nn

import distcel

X = np.random.default_rng(0).random((10, 4), dtype=np.float32)
Y = np.arange(10) % 3


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_every_kind_of_model_predicts_in_batches(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1))
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(network, (torch.from_numpy(X),), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "network.pt2")
    torch.jit.trace(network, torch.from_numpy(X)).save(str(tmp_path / "network.pt"))
    bayes = GaussianNB().fit(X, Y)

    def function(batch_BF: Any) -> Any:
        assert len(batch_BF) <= 4
        return network(torch.from_numpy(batch_BF))

    models = [bayes, function, tmp_path / "network.pt2", str(tmp_path / "network.pt")]
    found = distcel.predictions_of(models, X, batch_size=4)
    assert found.dtype == np.float32
    assert found.shape == (10, 4, 3)
    np.testing.assert_allclose(found[:, 0], bayes.predict_proba(X), rtol=1e-5)
    adds = distcel.multiply_adds_of(models[1:], X[:3])
    assert adds == [12, 12, 12]  # four inputs, three outputs
    own = network(torch.from_numpy(X)).detach().numpy()
    for i in (1, 2, 3):
        np.testing.assert_allclose(found[:, i], own, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, "a classifier with predict_proba, a function or the path of a file as model, but got"),
        (lambda rows: rows, "model 0 that are not negative and sum to 1"),
        (lambda rows: rows[:, 0], "probabilities .10, classes. of model 0"),
        ("none.pt2", "a readable torch.export .* 'none.pt2'"),
    ],
)
def test_what_does_not_predict_is_refused(model: object, message: str) -> None:
    with pytest.raises(distcel.InvalidInputError, match=message):
        distcel.predictions_of([model], X)


def test_the_multiply_adds_of_a_model_without_torch_are_not_known() -> None:
    with pytest.raises(distcel.InvalidInputError, match=r"torch in model 0.* give its price"):
        distcel.multiply_adds_of([GaussianNB().fit(X, Y)], X)
    with pytest.raises(distcel.InvalidInputError, match="samples"):
        distcel.multiply_adds_of([], X[:0])
