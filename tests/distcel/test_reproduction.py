import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distcel.comparison import Comparison
from distcel.cost import MultiplyAdds
from distcel.measures import measure
from distcel.outcomes import SeedOutcome, cost_points
from distcel.reproduction import tracked, write
from distcel.significance import Difference
from distcel.trained_rules import EQ_7, TrainedRule
from distcel.types import EpochResult, SelectionParams, TrialRecord
from tests.distcel.test_comparison import sure
from tests.distcel.test_consensus import split_of

TEST = split_of(0, n_samples=40)
NAMES = ("cat", "dog", "a|b", "fish")
TITLES = ("e2e-CEL", "SL", "UA", "PV", "RS", "logistic stacking", "static top-k", "single network")
FEMALE = {"female": np.arange(40) < 10}
COST = MultiplyAdds(selection_net=1_000_000, learner=500_000)


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
        "first": {"k": 2, "epsilon": 0.1},
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
    comparison = Comparison(measures, curve, on_valid, COST, learned_vote=learned, seconds=seconds)
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
        ("UA", 6): 3.0,
        ("logistic stacking", 6): 3.000096,
        ("static top-k", 2.5): 1.25,
        ("single network", 0): 0.5,
    }
    assert points["e2e-CEL", 1].accuracies == (0.50, 0.52)
    assert points["UA", 6].accuracies == (0.5, 0.5)
    assert points["e2e-CEL, k of each search", 2.5].accuracies == (0.75, 0.75)
    assert [k for (_, k), point in points.items() if point.on_front] == [1, 2, 6]
    assert [k for (_, k), point in points.items() if point.is_knee] == [2]


def test_the_learned_vote_is_in_the_tables_where_every_seed_has_it(tmp_path: Path) -> None:
    found = [outcome(seed, {1: 0.5, 2: 0.8}, {}, learned_k=seed + 1) for seed in (0, 1)]
    (point,) = (point for point in cost_points(found) if point.rule == LEARNED)
    # A net, 1 and 2 learners, and as many matrices of 4 x 4.
    assert point.multiply_adds == (1_500_000 + 16 + 2_000_000 + 32) / 2
    assert (point.k, point.accuracies, point.on_front) == (1.5, (0.5, 0.5), False)
    report = write(tmp_path / "both", "title", "command", found, None)
    assert row(report, LEARNED, "Table 6") == ["1.5", "1.750", "50.00 ± 0.00", "-", "no"]
    chosen = ["6", "2", "0.1", "-", "0.02", "exact", "learned", "62.50"]
    assert row(report, f"seed 1, {LEARNED}", "Table 3") == chosen
    assert row(report, "rule", "Table 4")[-1] == f"{LEARNED} minus it"

    one = [found[0], outcome(1, {1: 0.5, 2: 0.8}, {})]
    report = write(tmp_path / "one", "title", "command", one, None)
    assert row(report, f"seed 0, {LEARNED}", "Table 3")[1] == "1"
    assert LEARNED not in report[report.index("Table 4") :]


def row(report: str, title: str, caption: str) -> list[str]:
    """The cells of a table's row, the table being the one below the caption."""
    parts = report[report.index(caption) :].split("\n\n")
    table = next(part for part in parts if part.startswith("|"))
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_the_tables_beyond_the_papers(tmp_path: Path) -> None:
    report = write(tmp_path, "title", "command", outcomes(FEMALE), None)
    assert row(report, "e2e-CEL", "Table 4") == ["train", "75.00 ± 0.00", "17.50 ± 0.00", "-"]
    assert row(report, "UA", "Table 4")[:3] == ["-", "50.00 ± 0.00", "42.50 ± 0.00"]
    assert row(report, "oracle", "Table 4")[2] == "-"
    stacking = "+25.00 ± 0.00: +25.00 [+12.50, +40.00] p 0.002; +25.00 [+12.50, +40.00] p 0.002"
    assert row(report, "logistic stacking", "Table 4")[3] == stacking
    assert row(report, "rule", "Table 5") == ["cat", "dog", "a\\|b", "fish"]
    sizes = [str(count) for count in np.bincount(TEST.labels_S)]
    assert row(report, "samples", "Table 5") == sizes
    found = outcomes({})[0].comparison.measures.class_accuracy["UA"]
    assert row(report, "UA", "Table 5") == [f"{100 * found[name]:.2f}" for name in NAMES]
    assert row(report, "logistic stacking", "Table 6") == ["6", "3.000", "50.00 ± 0.00", "-", "no"]
    knees = [line for line in report.splitlines() if "yes, the knee" in line]
    assert len(knees) == 1
    assert "| 2.000 " in knees[0]
    on_front = [line for line in report.splitlines() if re.search(r"\| yes +\|$", line)]
    assert [re.findall(r"[\w-]+", line)[:3] for line in on_front] == [
        ["e2e-CEL", "1", "1"],
        ["e2e-CEL", "2", "2"],
        ["e2e-CEL", "6", "4"],
        ["single", "network", "0"],
    ]
    assert row(report, "samples", "Table 7") == ["10"]
    assert row(report, "UA", "Table 7") == ["100.00"]


def test_the_report_says_what_all_trainings_took(tmp_path: Path) -> None:
    report = write(tmp_path, "title", "command", outcomes({}), None)
    took = "base learners 2.0, refit 0.2, Figure 2 0.4."  # minutes of both seeds
    assert "took 2.6 minutes of one worker" in report
    assert took in report


def test_a_p_that_is_none_is_not_printed_as_0(tmp_path: Path) -> None:
    (found, *_) = outcomes({})
    against = {"e2e-CEL": {"SL": Difference(0.1, 0.09, 0.11, 0.0)}}
    measures = replace(found.comparison.measures, against=against)
    found = replace(found, comparison=replace(found.comparison, measures=measures))
    report = write(tmp_path, "title", "command", [found], None)
    assert row(report, "SL", "Table 4")[3] == "+10.00 [+9.00, +11.00] p < 1e-12"


def test_the_report_says_how_many_trials_and_samples_there_were(tmp_path: Path) -> None:
    report = write(tmp_path, "title", "command", outcomes({}), None)
    assert "Samples: 300 train, 30 valid, 40 test." in report
    assert "Trials of each seed's search: 8, 9, the first at k = 2, epsilon = 0.1, the" in report


def test_fer2013s_private_test_is_said_by_itself(tmp_path: Path) -> None:
    names = ("e2e_cel", "super_learner", "unweighted_average", "plurality_vote", "random_selection")
    private = [dict.fromkeys(names, 0.5) | {"e2e_cel": accuracy} for accuracy in (0.6, 0.7)]
    both = [
        replace(found, results={**found.results, "private_test_accuracy": of_seed})
        for found, of_seed in zip(outcomes({}), private, strict=True)
    ]
    report = write(tmp_path, "title", "command", both, None)
    assert "On PrivateTest alone: e2e-CEL 65.00 ± 7.07, SL 50.00 ± 0.00, UA" in report
    assert "PrivateTest" not in write(tmp_path, "title", "command", outcomes({}), None)


def test_the_report_says_of_what_code_it_is(tmp_path: Path) -> None:
    first, *_ = outcomes({})
    report = write(tmp_path, "title", "command", [first], None)
    assert report.endswith(" torch 2; commit 0123abc, changed.\n")
    installed = replace(first, results={**first.results, "commit": None})
    report = write(tmp_path, "title", "command", [first, installed], None)
    assert report.endswith(" torch 2; commit 0123abc, changed and unknown.\n")


def test_the_captions_are_of_the_rules_that_are_there(tmp_path: Path) -> None:
    def trained(**lrs: float) -> str:
        (found, *_) = outcomes({})
        rules = {
            title.replace("_", " "): TrainedRule(np.zeros((1, 1), np.float32), 0.5, lr, 1, 1, 1.0)
            for title, lr in lrs.items()
        }
        comparison = replace(found.comparison, trained=rules)
        return write(tmp_path, "title", "c", [replace(found, comparison=comparison)], None)

    eq_7, beyond, lrs = "is e2e-CEL at the first trial's", "A single network has", "Chosen, seed"
    assert [text in trained() for text in (eq_7, beyond, lrs)] == [False, False, False]
    report = trained(**{EQ_7: 0.25})
    assert [text in report for text in (eq_7, beyond)] == [True, False]
    assert "Chosen, seed by seed: e2e-CEL by Eq. 7 0.25\n" in report
    report = trained(single_network=0.5, soft_gating=0.125)
    assert [text in report for text in (eq_7, beyond)] == [False, True]
    assert "Chosen, seed by seed: single network 0.5; soft gating 0.125\n" in report


def test_the_report_says_what_other_choices_of_k_would_have_given(tmp_path: Path) -> None:
    report = write(tmp_path, "title", "command", outcomes({}), None)
    on_valid = "on its valid split, it would have been 2, 3, and e2e-CEL 80.00 ± 0.00 on test."
    assert on_valid in report
    on_test = "on the test split, as the authors' code does, it would have been 5, 4, and e2e-CEL"
    assert f"{on_test} 94.50 ± 6.36" in report


def test_the_report_says_what_diverged_and_in_which_seeds(tmp_path: Path) -> None:
    found = outcomes({})
    assert "Diverged" not in write(tmp_path, "title", "command", found, None)
    both = "single network"
    lacking = [
        replace(seed, comparison=replace(seed.comparison, diverged=titles))
        for seed, titles in zip(found, ([both], [both, "e2e-CEL, k = 3"]), strict=True)
    ]
    report = write(tmp_path, "title", "command", lacking, None)
    titles = "single network (seed 0, 1); e2e-CEL, k = 3 (seed 1)"
    assert f"Diverged, and so left out of Tables 4 to 7 and Figure 2: {titles}." in report


def test_the_rules_of_a_holdout_are_fitted_on_it(tmp_path: Path) -> None:
    found = [replace(o, results={**o.results, "selector_split": "holdout"}) for o in outcomes({})]
    report = write(tmp_path, "title", "command", found, None)
    assert row(report, "SL", "Table 4")[0] == "held-out fifth"
    assert row(report, "UA", "Table 4")[0] == "-"


def test_the_report_says_how_many_duplicates_were_left_out(tmp_path: Path) -> None:
    report = write(tmp_path, "title", "command", outcomes({}), None)
    assert "Left out of train and valid, their image being there twice or in test: 0, 5." in report


def test_the_report_says_that_a_seed_was_searched_on_after_its_test(tmp_path: Path) -> None:
    first, second = outcomes({})
    second = replace(second, results={**second.results, "test_read_after": [8, 16]})
    assert "been read" not in write(tmp_path, "title", "command", [first], None)
    report = write(tmp_path, "title", "command", [first, second], None)
    assert "Trials were added when the test split had been read: seed 1 after 8." in report


def test_a_data_set_without_slices_has_no_table_of_them(tmp_path: Path) -> None:
    assert "Table 7" not in write(tmp_path, "title", "command", outcomes({}), None)


def test_the_results_hold_it_all(tmp_path: Path) -> None:
    write(tmp_path, "title", "command", outcomes(FEMALE), None)
    results = json.loads((tmp_path / "results.json").read_text())
    seed = results["seeds"][1]
    assert seed["calibration_error"]["UA"] == pytest.approx(0.425)
    assert set(seed["class_accuracy"]["mean base learner"]) == set(NAMES)
    assert seed["slice_accuracy"]["UA"] == {"female": 1.0}
    assert seed["slice_sizes"] == {"female": 10}
    assert seed["against"]["e2e-CEL"]["UA"]["mean"] == pytest.approx(0.25)
    assert seed["multiply_adds"] == {"selection_net": 1_000_000, "learner": 500_000}
    assert seed["curve"]["4"]["e2e-CEL"] == 0.99
    assert seed["seconds"] == {"Figure 2": 12.0, "gradients": 0.0}
    assert [point["k"] for point in results["cost"] if point["on_front"]] == [1, 2, 6]
    for name in ("figure2", "pareto"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (tmp_path / f"{name}.svg").read_bytes()


def test_mlflow_is_told_the_means(tmp_path: Path) -> None:
    write(tmp_path, "title", "command", outcomes({}), None)
    found = tracked("title", "digits", outcomes({}), tmp_path, tmp_path)
    assert found.metrics["accuracy/e2e-CEL"] == pytest.approx(0.75)
    assert found.curves["e2e-CEL"] == pytest.approx({1: 0.51, 2: 0.80, 3: 0.79, 6: 0.87})
    assert {path.name for path in found.files} >= {"report.md", "results.json", "pareto.png"}
