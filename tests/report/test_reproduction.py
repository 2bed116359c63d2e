import json
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from distcel.core.cost import MultiplyAdds
from distcel.evaluate.compare import Comparison
from distcel.evaluate.measures import measure
from distcel.evaluate.outcomes import SeedOutcome, cost_points
from distcel.experiment.types import SelectionParams
from distcel.report.reproduction import tracked, write
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import EpochResult
from tests.cached_splits import split_of
from tests.evaluate.test_compare import sure

TEST = split_of(0, n_samples=40)
NAMES = ("cat", "dog", "a|b", "fish")
TITLES = (
    "e2e-CEL",
    "SL",
    "UA",
    "PV",
    "RS",
    "logistic stacking",
    "static top-k",
    "single network",
    "nearest neighbours",
    "soft gating",
    "static top-k of its own k",
    "e2e-CEL by Eq. 7",
    "straight-through top-k",
    "best learner",
    "discrete SL",
)
FEMALE = {"female": np.arange(40) < 10}
COST = MultiplyAdds(selection_net=1_000_000, learner=500_000, distance=100)


LEARNED = "learned vote of few"


def outcome(
    seed: int, at_k: dict[int, float], slices: dict[str, np.ndarray], learned_k: int = 0
) -> SeedOutcome:
    """E2e-CEL has the first 30 samples right, and the others the first 20, learned vote and all."""
    wrong = (TEST.labels_S + 1) % 4
    said = {title: sure(np.where(np.arange(40) < 20, TEST.labels_S, wrong)) for title in TITLES}
    said["e2e-CEL"] = sure(np.where(np.arange(40) < 30, TEST.labels_S, wrong))
    curve = {k: dict.fromkeys(TITLES, 0.5) | {"e2e-CEL": accuracy} for k, accuracy in at_k.items()}
    results = {
        "seed": seed,
        "n_learners": 6,
        "n_classes": 4,
        "n_samples": {"train": 300, "valid": 30, "test": 40},
        "n_trials": 8 + seed,
        "first": {"k": 5, "epsilon": 0.1},
        "private_test_accuracy": None,
        "n_duplicates": 5 * seed,
        "test_read_after": [8],
        "best": {
            "k": 2 + seed,
            "epsilon": 0.1,
            "m": 1,
            "lr": 0.1,
            "gradient": "exact",
            "vote": "sum",
        },
        "selector_split": "train",
        "valid_accuracy": 0.7,
        "specialised": 0.9,
        "complementary": 0.4,
        "overall": 0.5,
        "seconds": {"base_learners": 60.0, "refit": 6.0},
        "versions": {"torch": "2"},
        "commit": "0123abc, changed",
        "note": "Preset so and so.",
        "paper": None,
        "machine": "an abacus",
        "ended": "2026-11-23T12:00:00+00:00",
    }
    learned = None
    if learned_k:
        said[LEARNED] = said["SL"]
        params = SelectionParams(learned_k, 0.1, 1, 0.02, "exact", "learned")
        learned = TrialRecord(0, params, "COMPLETE", (EpochResult(1, 1.0, 1.0, 0.625, 0.1, 1),))
    measures = measure(said, TEST, NAMES, slices, [t for t in ("e2e-CEL", LEARNED) if t in said])
    seconds = {"Figure 2": 12.0, "gradients": 0.0}
    on_valid = {k: 0.9 - abs(k - 2 - seed) / 10 for k in at_k}  # highest where k is 2 + seed
    settings = {"static top-k of its own k": 4}
    comparison = Comparison(
        measures, curve, on_valid, COST, settings, learned_vote=learned, seconds=seconds
    )
    return SeedOutcome(results, comparison)


def outcomes(slices: dict[str, np.ndarray]) -> list[SeedOutcome]:
    return [
        outcome(0, {1: 0.50, 2: 0.80, 3: 0.78, 5: 0.9, 6: 0.86}, slices),
        outcome(1, {1: 0.52, 2: 0.80, 3: 0.80, 4: 0.99, 6: 0.88}, slices),
    ]


def test_the_cost_of_each_common_k_and_of_the_rules_that_ask_all() -> None:
    points = {(p.rule, p.k): p for p in cost_points(outcomes({}))}
    millions = {key: point.multiply_adds / 1e6 for key, point in points.items()}
    assert millions == {
        ("e2e-CEL", 1): 1.5,
        ("e2e-CEL", 2): 2.0,
        ("e2e-CEL", 3): 2.5,
        ("e2e-CEL", 6): 4.0,
        ("e2e-CEL, k of each search", 2.5): 2.25,
        ("static top-k", 2.5): 1.25,
        ("RS", 2.5): 1.25,
        ("SL", 6): 3.0,
        ("UA", 6): 3.0,
        ("PV", 6): 3.0,
        ("logistic stacking", 6): 3.000096,
        ("static top-k of its own k", 4): 2.0,
        ("soft gating", 6): 4.0,
        ("nearest neighbours", 0): 0.03,
        ("single network", 0): 0.5,
        ("e2e-CEL by Eq. 7", 5): 3.5,
        ("straight-through top-k", 2.5): 2.25,
        ("best learner", 1): 0.5,
        ("discrete SL", 1): 0.5,
    }
    assert points["e2e-CEL", 1].accuracies == (0.50, 0.52)
    assert points["UA", 6].accuracies == (0.5, 0.5)
    assert points["e2e-CEL, k of each search", 2.5].accuracies == (0.75, 0.75)
    assert [k for (_, k), point in points.items() if point.on_front] == [1, 2, 6]
    assert [k for (_, k), point in points.items() if point.is_knee] == [2]


def test_the_results_hold_it_all(tmp_path: Path) -> None:
    write(tmp_path, "title", "command", outcomes(FEMALE), None)
    results = json.loads((tmp_path / "results.json").read_text())
    seed = results["seeds"][1]
    assert seed["calibration_error"]["UA"] == pytest.approx(0.425)
    assert set(seed["class_accuracy"]["mean base learner"]) == set(NAMES)
    assert seed["slice_accuracy"]["UA"] == {"female": 1.0}
    assert seed["slice_sizes"] == {"female": 10}
    assert seed["against"]["e2e-CEL"]["UA"]["mean"] == pytest.approx(0.25)
    assert seed["multiply_adds"] == asdict(COST)
    assert seed["settings"] == {"static top-k of its own k": 4}
    assert seed["curve"]["4"]["e2e-CEL"] == 0.99
    assert seed["seconds"] == {"Figure 2": 12.0, "gradients": 0.0}
    assert [point["k"] for point in results["cost"] if point["on_front"]] == [1, 2, 6]
    for name in ("figure2", "pareto"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.*g")}
    time.sleep(1)  # a date would be another one
    write(tmp_path, "title", "command", outcomes(FEMALE), None)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*g")} == drawn


def test_mlflow_is_told_the_means(tmp_path: Path) -> None:
    write(tmp_path, "title", "command", outcomes({}), None)
    found = tracked("title", "digits", outcomes({}), tmp_path, tmp_path)
    assert found.metrics["accuracy/e2e-CEL"] == pytest.approx(0.75)
    assert found.curves["e2e-CEL"] == pytest.approx({1: 0.51, 2: 0.80, 3: 0.79, 6: 0.87})
    assert found.description.startswith("`command`\n\n")
    tables = [part for part in found.description.split("\n\n") if part.startswith("Table ")]
    assert [table[:7] for table in tables] == ["Table 1", "Table 2", "Table 3"]
    assert {path.name for path in found.files} >= {"report.md", "results.json", "pareto.png"}
