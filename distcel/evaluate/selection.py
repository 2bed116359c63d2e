"""Whom a smart ensemble of given predictors asks, and what it costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from distcel.core.ensemble import SmartEnsemble, answered, class_probabilities
from distcel.core.priced_ensemble import PricedEnsemble
from distcel.data.answers import Answers
from distcel.data.splits import Split
from distcel.rules.consensus import RANDOM_DRAWS
from distcel.rules.rule import ProbsDSC, Rule, cost_of_learners, k_learners
from distcel.search.refit import ChosenEnsemble, PricedRule, SmartRule, trained_priced
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.front import pareto
from distcel.train.loop import to_tensor
from distcel.train.selection import TrainingTask, split_front

_BATCH = 256
# The null model of a selection: it asks as often, but whom has nothing to do with the sample.
SHUFFLED = Rule(
    key="shuffled_selection",
    title="shuffled",
    about="the vote of those that e2e-CEL asks for another sample of test, if they answered: the "
    f"mean accuracy of {RANDOM_DRAWS} permutations",
    fitted_on="nothing",
    n_used=k_learners,
    cost=cost_of_learners(k_learners),
)


@dataclass(frozen=True)
class Selection:
    """Whom the smart ensemble asks.

    Attributes:
        facts: for `results.json`.
        k: the number of predictors that it asks for a sample of valid, rounded, at least 1.
    """

    facts: dict[str, Any]
    k: int


def measure_selection(
    answers: Answers,
    task: TrainingTask,
    chosen: ChosenEnsemble,
    test: Split,
    test_SN: NDArray[np.bool_],
) -> Selection:
    """Measure whom the smart ensemble asks on test, and what it pays.

    Args:
        answers: what the predictors answered.
        task: the task that the selection net was trained on.
        chosen: the smart ensemble.
        test: the test split.
        test_SN: whom it asks there, as `selected` gives it.

    Returns:
        Selection: its facts are `predictors`, a list of `name`, `price`, `always` (whether it is
        asked for every sample), `accuracy`, `asked` (the share of the samples of test) and
        `unanswered` (by split); `class_names`; `n_raised`, as in `Answers`; `sees_features`,
        whether the net sees more than answers; `asked_by_class`, a list for each class of the share
        for each predictor; `price` and `valid_price`, means of a sample, `price_by_class`,
        `price_weight` (a `PriceWeight`), `budget` and `front`, a list of `lambda`, `valid_price`,
        `valid_accuracy`, `price` and `accuracy`, where the predictors have prices, else null.
    """
    valid_SN = selected(chosen.rule, chosen.network, task, task.valid)
    n_classes = len(answers.splits.class_names)
    by_class = [test_SN[test.labels_S == c] for c in range(n_classes)]
    accuracy_N = test.learners_correct.mean(0)
    prices = task.prices.of_learners if task.prices else [None] * len(answers.names)
    n_unanswered = answers.n_unanswered
    predictors = [
        {
            "name": name,
            "price": price,
            "always": i < answers.n_always,
            "accuracy": float(accuracy),
            "asked": float(asked),
            "unanswered": {split: counts[i] for split, counts in n_unanswered.items()},
        }
        for i, (name, price, accuracy, asked) in enumerate(
            zip(answers.names, prices, accuracy_N, test_SN.mean(0), strict=True)
        )
    ]
    facts: dict[str, Any] = {
        "predictors": predictors,
        "class_names": list(answers.splits.class_names),
        "n_raised": answers.n_raised,
        "sees_features": test.images_SCHW[0].size > 3 * n_classes * answers.n_always,
        "asked_by_class": [mask.mean(0).tolist() for mask in by_class],
        **_spent(task, chosen, valid_SN, test_SN, test),
    }
    return Selection(facts, max(1, round(float(valid_SN.sum(1).mean()))))


def _spent(
    task: TrainingTask,
    chosen: ChosenEnsemble,
    valid_SN: NDArray[np.bool_],
    test_SN: NDArray[np.bool_],
    test: Split,
) -> dict[str, Any]:
    if task.prices is None:
        names = ("price", "valid_price", "price_by_class", "price_weight", "budget", "front")
        return dict.fromkeys(names)
    assert isinstance(chosen.rule, PricedRule), "the predictors have prices"
    spent_S = test_SN @ np.array(task.prices.of_learners)
    labels = range(test.probs_SNC.shape[2])
    return {
        "price": float(spent_S.mean()),
        "valid_price": float((valid_SN @ np.array(task.prices.of_learners)).mean()),
        "price_by_class": [float(spent_S[test.labels_S == c].mean()) for c in labels],
        "price_weight": asdict(chosen.rule.price_weight),
        "budget": task.prices.budget,
        "front": _front(task, chosen, test),
    }


def _front(task: TrainingTask, chosen: ChosenEnsemble, test: Split) -> list[dict[str, float]]:
    """The front that valid has, and on test the same network at the same weights of price."""
    assert chosen.on_valid is not None, "with prices there is one that has not seen valid"
    ensemble = trained_priced(chosen.on_valid, task, chosen.rule.params)
    valid = pareto(chosen.front)
    on_test = split_front(ensemble, test, [point.price_weight for point in valid])
    return [
        {
            "lambda": v.price_weight,
            "valid_price": v.price,
            "valid_accuracy": v.accuracy,
            "price": t.price,
            "accuracy": t.accuracy,
        }
        for v, t in zip(valid, on_test, strict=True)
    ]


@torch.inference_mode()
def selected(
    smart: SmartRule, network: TrainedNetwork, task: TrainingTask, split: Split
) -> NDArray[np.bool_]:
    """Which learners are asked for each sample of the split, (S, N)."""
    ensemble, cpu = smart.ensemble(network, task).eval(), torch.device("cpu")
    inputs = to_tensor(split.images_SCHW, cpu).split(_BATCH)
    probs = to_tensor(split.probs_SNC, cpu).split(_BATCH)
    masks = [ensemble.select(*batch) for batch in zip(inputs, probs, strict=True)]
    return torch.cat(masks).bool().numpy()


@torch.inference_mode()
def shuffled_probs(
    ensemble: SmartEnsemble | PricedEnsemble,
    split: Split,
    mask_SN: NDArray[np.bool_],
    seed: int,
) -> ProbsDSC:
    """Class probabilities by `SHUFFLED`, of each permutation, (D, S, C).

    Args:
        ensemble: combines the answers.
        split: the samples.
        mask_SN: whom the smart ensemble asks for each of them.
        seed: seeds the permutations.
    """
    random, cpu = np.random.default_rng(seed), torch.device("cpu")
    probs = to_tensor(split.probs_SNC, cpu).split(_BATCH)
    draws = []
    for _ in range(RANDOM_DRAWS):
        masks = torch.tensor(random.permutation(mask_SN)).split(_BATCH)
        pairs = zip(masks, probs, strict=True)
        logits = [ensemble.combine((m & answered(p)).float(), p) for m, p in pairs]
        draws.append(class_probabilities(torch.cat(logits)).numpy())
    return np.stack(draws)
