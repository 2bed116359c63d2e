"""A selection net for predictors that were trained elsewhere, to be taken away and asked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distcel.core.ensemble import SmartEnsemble, trained_ensemble
from distcel.core.networks import NetworkPlan
from distcel.core.priced_ensemble import PricedEnsemble, answer_features, trained_priced_ensemble
from distcel.experiment.architecture import NetworkFunction
from distcel.experiment.errors import invalid, require
from distcel.experiment.prices import Prices, PriceWeight
from distcel.experiment.types import SelectionParams
from distcel.serve.saved import (
    SMART_FILE,
    loaded,
    plan_facts,
    read_facts,
    read_plan,
    read_weights,
    write_folder,
)

_BATCH = 1024


class Selector:
    """Chooses which of N predictors to ask for a sample, and combines what they answer.

    Attributes:
        smart: the selection net and the vote, as a module.
        names: the N predictors, those first that are always asked.
        class_names: the C classes.
        raised: the predictors whose confidences were raised in training, as docs/your-own.md has
            it; probabilities that are given here have to be so already.
        prices: their prices; None where k are selected, whatever they cost.
        input_shape: the shape of what the selection net sees of a sample, beside the answers of
            the predictors that are always asked, which are appended to it; (0,) for nothing.
    """

    def __init__(
        self,
        smart: SmartEnsemble | PricedEnsemble,
        plan: NetworkPlan,
        names: tuple[str, ...],
        class_names: tuple[str, ...],
        temperature: float,
        raised: tuple[str, ...] = (),
    ) -> None:
        self.smart, self._temperature = smart.eval(), temperature
        self.names, self.class_names, self.raised = names, class_names, raised
        self.prices = smart.prices if isinstance(smart, PricedEnsemble) else None
        n_always = self.prices.n_always if self.prices else 0
        shape, appended = plan.image_shape, n_always * 3 * len(class_names)
        self.input_shape = (shape[0] - appended,) if len(shape) == 1 else shape

    @torch.inference_mode()
    def selected(self, answers: Any, features: Any = None) -> NDArray[np.bool_]:
        """Which predictors are worth asking for each sample, shape (B, N).

        Args:
            answers: class probabilities (B, N, C), of which only those of the always-asked
                predictors are looked at; a row of zeros is a predictor that cannot answer.
            features: what the selection net sees beside them, (B, *input_shape).

        Raises:
            InvalidInputError: a shape is another one.
        """
        parts = [self.smart.select(*batch) for batch in self._batches(answers, features)]
        return torch.cat(parts).bool().numpy()

    def to_ask(self, answers: Any, features: Any = None) -> NDArray[np.bool_]:
        """As `selected`, if every predictor could answer: whom to ask, before they have."""
        probs_BNC = self._checked(answers)
        missing_BN: NDArray[np.bool_] = probs_BNC.max(-1) == 0
        n_always = self.prices.n_always if self.prices else 0
        missing_BN[:, :n_always] = False
        probs_BNC[missing_BN] = 1 / len(self.class_names)
        return self.selected(probs_BNC, features)

    @torch.inference_mode()
    def predict_proba(self, answers: Any, features: Any = None) -> NDArray[np.float32]:
        """Class probabilities (B, C) of the selected predictors' vote; arguments as `selected`.

        The answers of predictors that are not selected change nothing.
        """
        parts = [self.smart(*batch) for batch in self._batches(answers, features)]
        probs: NDArray[np.float32] = (torch.cat(parts) / self._temperature).softmax(-1).numpy()
        return probs

    def predict(self, answers: Any, features: Any = None) -> list[str]:
        """The name of each sample's most probable class; arguments as `selected`."""
        return [self.class_names[c] for c in self.predict_proba(answers, features).argmax(-1)]

    def cost(self, answers: Any, features: Any = None) -> NDArray[np.float64]:
        """The price of the selected predictors of each sample, (B,); arguments as `selected`.

        It is their number where they have no prices.
        """
        n = len(self.names)
        prices = self.prices.of_learners if self.prices else (1.0,) * n
        spent_B: NDArray[np.float64] = self.selected(answers, features) @ np.array(prices)
        return spent_B

    def _checked(self, answers: Any) -> NDArray[np.float32]:
        """The answers as an array (B, N, C); raises InvalidInputError."""
        expected = (len(self.names), len(self.class_names))
        probs_BNC = _numbers("answers", answers, np.float32)
        fits = probs_BNC.ndim == 3 and probs_BNC.shape[1:] == expected and len(probs_BNC) > 0
        rule = f"answers of shape (B, {expected[0]}, {expected[1]})"
        require(fits, rule, probs_BNC.shape, "give class probabilities of all predictors")
        rule, remedy = "finite answers", "give zeros where a predictor has not answered"
        require(bool(np.isfinite(probs_BNC).all()), rule, "NaN or infinite ones", remedy)
        return probs_BNC

    def _batches(self, answers: Any, features: Any) -> list[tuple[Tensor, Tensor]]:
        probs_BNC = self._checked(answers)
        inputs = torch.from_numpy(self._inputs(probs_BNC, features))
        probs = torch.tensor(probs_BNC)
        return list(zip(inputs.split(_BATCH), probs.split(_BATCH), strict=True))

    def _inputs(self, probs_BNC: NDArray[np.float32], features: Any) -> NDArray[Any]:
        n, shape = len(probs_BNC), self.input_shape
        rule = f"features of shape ({n}, {', '.join(map(str, shape))})"
        if shape == (0,):
            alone = "no features: this selection net sees the answers alone"
            require(features is None, alone, "some", "leave them out")
            features = np.empty((n, 0))
        require(features is not None, rule, None, "give what the selection net was trained on")
        dtype = np.float32 if len(shape) == 1 else np.uint8
        seen = _numbers("features", features, dtype)
        require(seen.shape == (n, *shape), rule, seen.shape, "give as many as it was trained on")
        if len(shape) > 1:
            return seen
        n_always = self.prices.n_always if self.prices else 0
        always = answer_features(torch.tensor(probs_BNC[:, :n_always])).flatten(1).numpy()
        return np.concatenate([seen, always], axis=1)


def _numbers(name: str, given: Any, dtype: Any) -> NDArray[Any]:
    """The array of what was given; raises InvalidInputError if it is none."""
    try:
        return np.array(given, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise invalid(f"{name} as an array of numbers", str(error), "give such an array") from None


def save_selector(
    folder: Path,
    plan: NetworkPlan,
    params: SelectionParams,
    class_names: tuple[str, ...],
    names: tuple[str, ...],
    smart: dict[str, Tensor],
    temperature: float,
    prices: Prices | None,
    price_weight: PriceWeight | None,
    raised: tuple[str, ...],
) -> None:
    """Write the folder, in place of an earlier one; arguments as the attributes of `Selector`.

    Args:
        folder: the folder to write.
        plan: how the selection net is built.
        params: the trial's point, of which prediction uses k and the vote.
        class_names: names of the C classes.
        names: names of the N predictors.
        smart: weights of the smart ensemble.
        temperature: divides the logits of the vote in class probabilities.
        prices: the predictors' prices, if they have any.
        price_weight: lambda, likewise.
        raised: the predictors whose confidences were raised.
    """
    selection = {
        "prices": asdict(prices) if prices else None,
        "price_weight": asdict(price_weight) if price_weight else None,
        "raised": raised,
    }
    facts = {
        "class_names": class_names,
        "learner_names": names,
        "params": params.as_dict(),
        "temperature": temperature,
        "selection": selection,
        **plan_facts(plan),
    }
    write_folder(folder, facts, {SMART_FILE: smart})


def load_selector(folder: str | Path, architecture: NetworkFunction | None = None) -> Selector:
    """Load what `distcel select` wrote.

    Args:
        folder: the `ensemble` folder of a run directory, a copy of it, or the run directory.
        architecture: the function that built the selection net, where it was the user's own.

    Raises:
        InvalidInputError: the folder has none, a damaged one or one of another version, or the
            function is missing.
    """
    return loaded(folder, lambda found: _load(found, architecture))


def _load(folder: Path, function: NetworkFunction | None) -> Selector:
    facts = read_facts(folder)
    rule = "an ensemble of given predictors"
    remedy = "give load_ensemble(folder), which predicts images"
    require("selection" in facts, rule, "one with base learners of its own", remedy)
    plan, params = read_plan(facts, function), SelectionParams.from_dict(facts["params"])
    class_names, names = tuple(facts["class_names"]), tuple(facts["learner_names"])
    weights, selection = read_weights(folder, facts, SMART_FILE), facts["selection"]
    smart: SmartEnsemble | PricedEnsemble
    if selection["prices"] is None:
        smart = trained_ensemble(plan, len(names), len(class_names), params, weights)
    else:
        own = selection["prices"]
        prices = Prices(tuple(own["of_learners"]), own["n_always"], own["budget"])
        smart = trained_priced_ensemble(plan, params, prices, len(class_names), weights)
        smart.price_weight = PriceWeight(**selection["price_weight"])
    temperature, raised = float(facts["temperature"]), tuple(selection["raised"])
    return Selector(smart, plan, names, class_names, temperature, raised)
