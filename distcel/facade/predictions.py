"""Predictions of models that were trained elsewhere, as one array, and what they cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcel.experiment.errors import invalid, require, require_count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3  # of the sum of a row of probabilities


def predictions_of(
    models: Sequence[Any], X: Any, *, batch_size: int = 256, device: str = "cpu"
) -> NDArray[np.float32]:
    """The class probabilities that N models give S samples, in batches.

    The log has a line for each model that is done.

    Args:
        models: each a fitted scikit-learn classifier, a function from a batch of X to an array or
            tensor of probabilities (B, C), or the path of a `torch.export` (`.pt2`) or TorchScript
            file of such a function. All have the same classes in the same order.
        X: the samples, an array of S rows.
        batch_size: samples of a batch.
        device: where the networks of files run, as torch names it; they get tensors there.

    Returns:
        NDArray: float32 (S, N, C), as `distcel.select` reads it from a file.

    Raises:
        InvalidInputError: a model is of no known kind or its file unreadable, or the rows of its
            output are no probabilities or of another number of classes.
    """
    import numpy as np

    require_count("batch_size", batch_size)
    require(
        len(models) > 0 and len(X) > 0, "models and samples", (len(models), len(X)), "give some"
    )
    found: list[NDArray[np.float32]] = []
    for i, model in enumerate(models):
        predict = _predictor(model, device)
        parts = [predict(X[at : at + batch_size]) for at in range(0, len(X), batch_size)]
        probs_SC = np.concatenate([np.asarray(part, np.float32) for part in parts])
        _require_probabilities(f"model {i}", probs_SC, len(X))
        rule = f"{found[0].shape[1] if found else 0} classes of every model"
        same = not found or probs_SC.shape == found[0].shape
        require(same, rule, f"{probs_SC.shape[1]} of model {i}", "train them on the same classes")
        found.append(probs_SC)
        logger.info("%d of %d models have predicted %d samples", i + 1, len(models), len(X))
    return np.stack(found, axis=1)


def multiply_adds_of(models: Sequence[Any], X: Any, *, device: str = "cpu") -> list[float]:
    """The multiply-adds that each model computes for a sample, the mean over X: their prices.

    Those of convolutions and linear layers are counted, as torch runs them; other layers have few
    or none.

    Args:
        models: as `predictions_of` takes them, but torch has to compute them: networks, functions
            that call one, files of networks, or ensembles of distcel.
        X: one or more samples, an array of S rows.
        device: as `predictions_of` takes it.

    Raises:
        InvalidInputError: torch computes nothing of a model, or it is of no known kind.
    """
    from torch.utils.flop_counter import FlopCounterMode

    require(len(X) > 0, "samples", len(X), "give one")
    found = []
    for i, model in enumerate(models):
        predict = _predictor(model, device)
        with FlopCounterMode(display=False) as counter:
            predict(X)
        n = counter.get_total_flops() / 2 / len(X)  # it counts a multiply-add as two
        rule = f"convolutions or linear layers of torch in model {i}"
        require(n > 0, rule, n, "give its price yourself, in multiply-adds")
        found.append(n)
    return found


def _predictor(model: Any, device: str) -> Callable[[Any], Any]:
    if isinstance(model, str | Path):
        return _network(Path(model), device)
    if hasattr(model, "predict_proba"):
        probabilities: Callable[[Any], Any] = model.predict_proba
        return probabilities
    rule = "a classifier with predict_proba, a function or the path of a file as model"
    require(callable(model), rule, type(model).__name__, "give one of these")

    def predict(batch: Any) -> Any:
        found = model(batch)
        return found.detach().cpu() if hasattr(found, "detach") else found

    return predict


def _network(path: Path, device: str) -> Callable[[Any], Any]:
    import numpy as np
    import torch

    try:
        if path.suffix == ".pt2":
            network: Any = torch.export.load(path).module()
        else:
            network = torch.jit.load(path, map_location=device)
        network = network.to(device)
    except (OSError, RuntimeError, ValueError) as error:
        found = f"{str(path)!r} ({str(error).strip().splitlines()[0]})"
        rule = "a readable torch.export (.pt2) or TorchScript file, and a device that is there"
        raise invalid(rule, found, "save it again, or give another device") from None

    def predict(batch: Any) -> Any:
        with torch.no_grad():
            return network(torch.as_tensor(np.asarray(batch), device=device)).cpu()

    return predict


def _require_probabilities(name: str, probs_SC: NDArray[np.float32], n_samples: int) -> None:
    fits = probs_SC.ndim == 2 and len(probs_SC) == n_samples and probs_SC.shape[1] >= 2
    rule = f"probabilities ({n_samples}, classes) of {name}"
    require(fits, rule, probs_SC.shape, "return one row a sample")
    sums = bool((probs_SC >= 0).all() and (abs(probs_SC.sum(1) - 1) <= _TOLERANCE).all())
    rule = f"probabilities of {name} that are not negative and sum to 1 within {_TOLERANCE:g}"
    found = f"a least of {probs_SC.min():g} and sums from {probs_SC.sum(1).min():g}"
    if not sums:
        raise invalid(rule, found, "end the model with a softmax")
