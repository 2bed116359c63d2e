"""What `benchmarks.dynamic_selection` compares: methods that combine a fitted pool.

Each gets the pool with its out-of-fold probabilities on train, and gives the predicted labels of
test and the share of the pool that it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from deslib.dcs.ola import OLA
from deslib.des.knora_e import KNORAE
from deslib.des.knora_u import KNORAU
from deslib.des.meta_des import METADES
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy

import distcel
from benchmarks.selection_pools import Fitted
from distcel.core.networks import NetworkPlan
from distcel.facade.selection_net import ARCHITECTURE, recipe_of
from distcel.rules.meta_des import CachedPool, NearestByFeatures
from distcel.train.loop import Training, predict

Predicted = tuple[NDArray[Any], float]
_NEIGHBOURS = 7  # DESlib's own


def smart(fitted: Fitted, seed: int) -> Predicted:
    """SmartSelector with half the pool."""
    n = len(fitted.pool)
    one = distcel.SmartSelector(fitted.pool, k=n // 2, prefit=True, random_state=seed)
    one.fit(fitted.fold.X, fitted.fold.y, predictions=fitted.train_SNC)
    return one.predict(fitted.fold.X_test), float(one.selected(fitted.fold.X_test).mean())


def deslib(fitted: Fitted, seed: int, method: Any, **options: Any) -> Predicted:
    """A method of DESlib; the share is of the samples on which the pool does not agree.

    On the others, DESlib asks the whole pool and selects nobody.
    """
    n_learners, n_classes = fitted.train_SNC.shape[1:]
    model = method(
        CachedPool(n_learners, n_classes),
        k=_NEIGHBOURS,
        knn_classifier=partial(NearestByFeatures, n_learners * n_classes),
        random_state=seed,
        **options,
    )
    # DESlib 0.3.7 calls a method that scikit-learn 1.7 removed (DESlib's issue 284).
    model._validate_data = lambda rows, labels, **_: (rows, labels)
    asked: list[float] = []
    # Where competences weigh the votes, those above 0 vote; DCS selects by index, DES by a mask.
    name = "estimate_competence" if getattr(model, "mode", "") == "weighting" else "select"
    own = getattr(model, name)

    def recorded(*given: Any, **named: Any) -> Any:
        found = own(*given, **named)
        masks = np.eye(n_learners)[found] if found.ndim == 1 else found > 0
        asked.extend(masks.mean(1))
        return found

    setattr(model, name, recorded)
    model.fit(_rows(fitted.train_SNC, fitted.fold.X), fitted.fold.y)
    asked.clear()
    labels = model.predict(_rows(fitted.test_SNC, fitted.fold.X_test))
    return labels, float(np.mean(asked)) if asked else 0.0


def _rows(probs_SNC: NDArray[Any], X: NDArray[Any]) -> NDArray[Any]:
    return np.hstack([probs_SNC.reshape(len(X), -1), X])


def soft_voting(fitted: Fitted, seed: int) -> Predicted:
    """The mean of all probabilities."""
    return fitted.test_SNC.mean(1).argmax(1), 1.0


def stacking(fitted: Fitted, seed: int) -> Predicted:
    """Logistic regression on all probabilities, as StackingClassifier has it."""
    n = len(fitted.fold.y)
    model = LogisticRegression(max_iter=1000).fit(fitted.train_SNC.reshape(n, -1), fitted.fold.y)
    return model.predict(fitted.test_SNC.reshape(len(fitted.test_SNC), -1)), 1.0


def best_single(fitted: Fitted, seed: int) -> Predicted:
    """The classifier that is the most accurate out of fold."""
    accuracy_N = (fitted.train_SNC.argmax(2) == fitted.fold.y[:, None]).mean(0)
    best = int(accuracy_N.argmax())
    return fitted.test_SNC[:, best].argmax(1), 1 / len(accuracy_N)


def mlp_alone(fitted: Fitted, seed: int) -> Predicted:
    """A net as SmartSelector's, trained alike to predict the label from the features alone."""
    X, X_test = (
        torch.from_numpy(values.clip(-10, 10).astype(np.float32))
        for values in (fitted.fold.X, fitted.fold.X_test)
    )
    n, n_features = X.shape
    labels = torch.from_numpy(fitted.fold.y)
    plan = NetworkPlan(ARCHITECTURE, (n_features,), (0.0,) * n_features, (1.0,) * n_features)
    net = plan.build(fitted.train_SNC.shape[2], seed)
    recipe = recipe_of(n)

    def loss(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return cross_entropy(net(X[batch]), labels[batch])

    training = Training(net, loss, torch.arange(n), recipe, seed)
    for _ in range(recipe.epochs):
        training.run_epoch()
    return predict(net, X_test).argmax(1).numpy(), 0.0


METHODS: dict[str, Callable[[Fitted, int], Predicted]] = {
    "SmartSelector": smart,
    "KNORA-E": partial(deslib, method=KNORAE),
    "KNORA-U": partial(deslib, method=KNORAU),
    "META-DES": partial(deslib, method=METADES),
    "OLA": partial(deslib, method=OLA),
    "stacking": stacking,
    "soft voting": soft_voting,
    "best single": best_single,
    "MLP alone": mlp_alone,
}
