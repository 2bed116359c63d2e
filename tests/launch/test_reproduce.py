"""The paper's evaluation, as a user runs it on the digits."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from distcel.cli.main import main
from tests.launch.conftest import CrossFitted, launch

QUICK = ("--seeds", "1", "--results-pages", "docs/results")
Curve = dict[int, dict[str, float]]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return launch("reproduce.py", *arguments, folder=folder)


GRID = {1, 2, 4, 7, 14, 18, 28, 55}  # of Figure 2


@pytest.fixture(scope="module")
def reproduced(launched: tuple[Path, list[str]]) -> Path:
    """The folder of a reproduction with one seed, which is launched already."""
    run_dir, _ = launched
    ran = command(run_dir.parents[1], *QUICK)
    assert (ran.returncode, ran.stderr) == (0, "")
    return run_dir.parent / "reproduce-digits-quick"


@pytest.fixture(scope="module")
def curve(reproduced: Path) -> Curve:
    # Without the chosen k, which may be near n.
    points = only_seed(reproduced)["comparison"]["over_k"]
    return {point["k"]: point["accuracy"] for point in points if point["k"] in GRID}


def only_seed(folder: Path) -> dict[str, Any]:
    (seed,) = json.loads((folder / "results.json").read_text())["seeds"]
    content: dict[str, Any] = seed
    return content


def test_figure_2_smart_beats_random_selection_of_as_many(curve: Curve) -> None:
    assert set(curve) == GRID
    for k, accuracy in curve.items():
        if 2 < k < 55:  # below, a few seeds' nets end at a bad choice, the same for every image
            assert accuracy["e2e_cel"] > accuracy["random_selection"], k


def test_figure_2_the_gap_shrinks_as_k_grows(curve: Curve) -> None:
    gaps = [curve[k]["e2e_cel"] - curve[k]["random_selection"] for k in (4, 14, 28, 55)]
    assert gaps == sorted(gaps, reverse=True)


def test_figure_2_all_are_equal_at_k_of_n(curve: Curve) -> None:
    at_n = curve[55]
    assert at_n["e2e_cel"] == pytest.approx(at_n["random_selection"])
    assert at_n["e2e_cel"] == pytest.approx(at_n["unweighted_average"])


def test_figure_2_fewer_learners_than_all_are_better(curve: Curve) -> None:
    # Where the net is trained for every k, one learner may be the best choice of all.
    smart = {k: accuracy["e2e_cel"] for k, accuracy in curve.items()}
    assert max(smart.values()) > smart[55]


def test_every_number_of_the_report_is_in_the_results(reproduced: Path) -> None:
    report, rules = (reproduced / "report.md").read_text(), only_seed(reproduced)["comparison"]
    assert f"`python launch/reproduce.py {' '.join(QUICK)}`" in report
    table_4 = report[report.index("Table 4, ") : report.index("Table 5, ")]
    for rule in rules["rules"].values():
        row = rf"\| {re.escape(rule['title'])} +\|"
        error = rule.get("calibration_error")
        both = f"{100 * rule['accuracy']:.2f} +"
        both += r"\| " + ("-" if error is None else f"{100 * error:.2f}")
        assert re.search(rf"{row} [^|]+ \| {both} ", table_4), rule["title"]
        by_class = rule["class_accuracy"]
        cells = r" +\| ".join(f"{100 * by_class[digit]:.2f}" for digit in "0123456789")
        assert re.search(rf"{row} {cells} ", report), rule["title"]
    assert "Table 9" not in report  # digits have no slices


def test_a_launch_and_its_comparison_measure_the_same(reproduced: Path) -> None:
    run = json.loads((reproduced.parent / "digits-quick-seed0" / "results.json").read_text())
    seed = only_seed(reproduced)
    accuracy = {key: rule["accuracy"] for key, rule in seed["comparison"]["rules"].items()}
    assert seed["launch"] == run
    assert accuracy["e2e_cel"] == run["accuracy"]["e2e_cel"]
    assert accuracy["super_learner"] == pytest.approx(run["accuracy"]["super_learner"])
    assert accuracy["single_mean"] == pytest.approx(run["overall"])


def test_the_pages_and_mlflow_have_the_same(
    reproduced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = reproduced.parents[1] / "docs" / "results"
    page = (pages / "digits.md").read_text().replace("digits-quick/", "./")
    report = (reproduced / "report.md").read_text()
    section = report.partition("\n## Notes")[0].partition("\n\n")[2].strip()
    assert section in page
    assert main(["report", str(reproduced)]) == 0
    assert capsys.readouterr().out.split() == report.split()
    (pages / "digits.md").unlink()
    assert main(["report", "--pages", str(pages)]) == 0
    assert (pages / "digits.md").read_text().replace("digits-quick/", "./") == page
    assert_mlflow_has(reproduced, "digits, preset quick")


def assert_mlflow_has(folder: Path, title: str) -> None:
    """The one reproduction of this title has the accuracy of every rule."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "distcel digits")
    query = f"tags.`mlflow.runName` = 'reproduction of {title}'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert run.info.status == "FINISHED"
    for key, rule in only_seed(folder)["comparison"]["rules"].items():
        assert run.data.metrics[f"accuracy/{key}"] == rule["accuracy"]


def test_the_cost_of_each_k_is_in_the_report(reproduced: Path, curve: Curve) -> None:
    report, comparison = (reproduced / "report.md").read_text(), only_seed(reproduced)["comparison"]
    table = report[report.index("Table 8, ") : report.index("## Notes")]
    learner = comparison["rules"]["best_learner"]["multiply_adds"]
    costs = {point["k"]: point["multiply_adds"] for point in comparison["over_k"]}
    net = costs[1] - learner
    for k, cost in costs.items():
        assert cost == net + k * learner
    for k, accuracy in curve.items():
        cells = rf"{costs[k] / 1e6:.3f} +\| {100 * accuracy['e2e_cel']:.2f} "
        assert re.search(rf"\| e2e-CEL +\| {k} +\| {cells}", table), k
    assert re.search(r"\| e2e-CEL +\| 1 +\| [^|]+\| [^|]+\| yes", table)  # nothing is cheaper


def test_the_figures_are_kept_in_two_formats(reproduced: Path) -> None:
    for name in ("figure2", "pareto"):
        assert (reproduced / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (reproduced / f"{name}.svg").read_bytes()


def test_the_same_command_again_trains_nothing_and_reports_the_same(reproduced: Path) -> None:
    before = only_seed(reproduced)["comparison"]
    ran = command(reproduced.parents[1], *QUICK, "--executor", "inline")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "0 base learners trained, 55 from the cache" in ran.stdout
    assert "\ntrial " not in ran.stdout
    after = only_seed(reproduced)["comparison"]
    assert after.pop("test_readings") == before.pop("test_readings") + 2  # launch and comparison
    assert after == before  # its times as well
    assert "The trainings of all seeds took" in ran.stdout


def test_a_selector_split_is_a_reproduction_of_its_own(cross_fitted: CrossFitted) -> None:
    folder = cross_fitted.runs / "reproduce-digits-smoke-crossfit"
    report, seed = (folder / "report.md").read_text(), only_seed(folder)
    assert report.startswith("# digits, preset smoke, selector split crossfit\n")
    assert seed["launch"]["selector_split"] == "crossfit"
    # The rules that a comparison fits again are fitted on the same predictions.
    rules, accuracy = seed["comparison"]["rules"], seed["launch"]["accuracy"]
    assert rules["e2e_cel"]["accuracy"] == accuracy["e2e_cel"]
    assert rules["super_learner"]["accuracy"] == pytest.approx(accuracy["super_learner"])


def test_rules_beyond_the_paper_are_in_the_report(cross_fitted: CrossFitted) -> None:
    folder = cross_fitted.runs / "reproduce-digits-smoke-crossfit"
    report, comparison = (folder / "report.md").read_text(), only_seed(folder)["comparison"]
    rules, against = comparison["rules"], comparison["against"]
    trained = {key for key, rule in rules.items() if "training" in rule}
    assert trained == {
        "soft_gating",
        "straight_through",
        "learned_vote",
        "single_network",
        "brief_single_network",
        "e2e_cel_from_classifier",
        "constant_control",
        "shuffled_control",
    }
    brief, single = (rules[name]["training"] for name in ("brief_single_network", "single_network"))
    assert single["lr"] == brief["lr"]
    learned, title = rules["learned_vote"]["trial"]["params"], rules["learned_vote"]["title"]
    assert 1 <= learned["k"] <= 18
    assert learned["vote"] == "learned"
    assert re.search(rf"\| seed 0, {title} +\| 55 +\| {learned['k']} +\|", report)
    assert set(against) == {"e2e_cel", "learned_vote"}
    lead = rules["learned_vote"]["accuracy"] - rules["super_learner"]["accuracy"]
    assert against["learned_vote"]["super_learner"]["mean"] == pytest.approx(lead)
    assert len(comparison["gradients"]) == 8
    for study in comparison["gradients"]:
        valid, test = study["epochs"][-1]["valid_accuracy"], study["test_accuracy"]
        cells = rf"{100 * valid:.2f} +\| {100 * test:.2f} "
        assert re.search(rf"\| {study['title']} +\| {cells}", report), study["title"]
    assert_mlflow_has(folder, "digits, preset smoke, selector split crossfit")
