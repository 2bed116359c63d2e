"""A reproduction's `results.json` of made-up numbers, measured on forty made-up samples."""

from importlib.metadata import version
from typing import Any

import numpy as np

from distcel.core.cost import MultiplyAdds
from distcel.evaluate.metrics import measure
from distcel.rules.registry import MEAN_LEARNER, ORACLE, PAPER_RULES, RULES
from distcel.rules.rule import RunFacts
from tests.cached_splits import split_of
from tests.evaluate.test_metrics import sure

TEST = split_of(0, n_samples=40)
NAMES = ("cat", "dog", "a|b\nc", "fish")
KEYS = (
    *PAPER_RULES,
    "stacking",
    "static_top_k",
    "single_network",
    "nearest_neighbours",
    "soft_gating",
    "static_own_k",
    "e2e_cel_eq_7",
    "straight_through",
    "best_learner",
    "discrete_super_learner",
)
CURVES = ("e2e_cel", "random_selection", "unweighted_average", "plurality_vote", "super_learner")
FEMALE = {"female": np.arange(40) < 10}
COST = MultiplyAdds(selection_net=1_000_000, learner=500_000, distance=100)
LEARNED = RULES["learned_vote"].title
PAPER = {
    "specialised": 0.95,
    "complementary": 0.3,
    "overall": 0.25,
    "e2e_cel": 0.8,
    "super_learner": 0.6,
    "unweighted_average": 0.55,
    "plurality_vote": 0.45,
    "random_selection": 0.5,
    "k": 2,
}


def launch(seed: int, facts: RunFacts) -> dict[str, Any]:
    """What a launch leaves in its `results.json`, but for what no report shows."""
    return {
        "dataset": "digits",
        "preset": "quick",
        "seed": seed,
        "selector_split": "train",
        "fixed": {},
        "n_learners": 6,
        "n_classes": 4,
        "n_samples": {"train": 300, "valid": 30, "test": 40},
        "n_trials": 8 + seed,
        "first": {"k": 5, "epsilon": 0.1},
        "private_test": None,
        "private_test_accuracy": None,
        "n_duplicates": 5 * seed,
        "test_read_after": [8],
        "best": {
            "k": 2 + seed,
            "epsilon": 0.123,
            "m": 7,
            "lr": 0.5,
            "gradient": "exact",
            "vote": "sum",
        },
        "accuracy": {
            "e2e_cel": 0.75,
            **dict.fromkeys(PAPER_RULES[1:], 0.5),
            "oracle": 1.0,
            "single_mean": 0.5,
        },
        "valid_accuracy": 0.7,
        "specialised": 0.9,
        "complementary": 0.4,
        "overall": 0.5,
        "rules": {key: RULES[key].describe(facts) for key in PAPER_RULES}
        | {ORACLE.key: ORACLE.describe(facts)},
        "seconds": {"base_learners": 60.0, "refit": 6.0},
        "versions": {"distcel": version("distcel"), "torch": "2"},
        "commit": "0123abc, changed",
        "note": "Preset so and so.",
        "paper": None,
        "machine": "an abacus",
        "ended": "2026-11-23T12:00:00+00:00",
    }


def made_seed(
    seed: int, at_k: dict[int, float], slices: dict[str, np.ndarray], learned_k: int | None = None
) -> dict[str, Any]:
    """E2e-CEL has the first 30 samples correct, the others the first 20, learned vote and all."""
    wrong = (TEST.labels_S + 1) % 4
    keys = [*KEYS, *(["learned_vote"] if learned_k else [])]
    probs = {key: sure(np.where(np.arange(40) < 20, TEST.labels_S, wrong)) for key in keys}
    probs["e2e_cel"] = sure(np.where(np.arange(40) < 30, TEST.labels_S, wrong))
    facts = RunFacts(6, 4, 300, 2 + seed, 5, COST, learned_k, {"static_own_k": 4})
    leaders = [key for key in ("e2e_cel", "learned_vote") if key in probs]
    measured = measure(probs, TEST, NAMES, slices, leaders)
    described = {**RULES, ORACLE.key: ORACLE, MEAN_LEARNER.key: MEAN_LEARNER}
    rules = {k: described[k].describe(facts) | found for k, found in measured["rules"].items()}
    rules["static_own_k"]["chosen"] = {"what": "k", "value": 4}
    if learned_k:
        params: dict[str, Any] = {"k": learned_k, "epsilon": 0.1, "m": 1, "lr": 0.02}
        params |= {"gradient": "exact", "vote": "learned"}
        rules["learned_vote"]["trial"] = {"params": params, "epochs": [{"valid_accuracy": 0.625}]}
        rules["learned_vote"]["training"] = training(0.02)
    over_k = [
        {
            "k": k,
            "multiply_adds": COST.of_sub_ensemble(k),
            "valid_accuracy": 0.9 - abs(k - 2 - seed) / 10,  # highest where k is 2 + seed
            "accuracy": dict.fromkeys(CURVES, 0.5) | {"e2e_cel": accuracy},
        }
        for k, accuracy in at_k.items()
    ]
    comparison = {
        **measured,
        "rules": rules,
        "over_k": over_k,
        "gradients": None,
        "diverged": [],
        "seconds": {"figure_2": 12.0, "gradients": 0.0},
    }
    return {"launch": launch(seed, facts), "comparison": comparison}


def training(lr: float) -> dict[str, float]:
    """What a trained rule's training is described by."""
    return {"lr": lr, "valid_accuracy": 0.5, "n_epochs": 1, "n_passes": 300, "seconds": 1.0}


def made_results(slices: dict[str, np.ndarray], dataset: str = "digits") -> dict[str, Any]:
    """A reproduction of two seeds."""
    seeds = [
        made_seed(0, {1: 0.50, 2: 0.80, 3: 0.78, 5: 0.9, 6: 0.86}, slices),
        made_seed(1, {1: 0.52, 2: 0.80, 3: 0.80, 4: 0.99, 6: 0.88}, slices),
    ]
    for seed in seeds:
        seed["launch"]["dataset"] = dataset
    return {"command": "command", "seeds": seeds}


def one_seed() -> dict[str, Any]:
    """The same of the first seed alone."""
    found = made_results({})
    return {**found, "seeds": found["seeds"][:1]}
