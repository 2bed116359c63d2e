"""The paper's evaluation, as a user runs it on the digits."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import RunFailedError
from launch import cluster, reproduce
from tests.launch.conftest import ROOT, CrossFitted, launch

QUICK = ("--seeds", "1", "--results-file", "RESULTS.md")
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
    (seed,) = json.loads((reproduced / "results.json").read_text())["seeds"]
    # Without the chosen k, which may be near n.
    return {int(k): values for k, values in seed["curve"].items() if int(k) in GRID}


def test_figure_2_smart_beats_random_selection_of_as_many(curve: Curve) -> None:
    assert set(curve) == GRID
    for k, accuracy in curve.items():
        if 2 < k < 55:  # below, a few seeds' nets end at a bad choice, the same for every image
            assert accuracy["e2e-CEL"] > accuracy["RS"], k


def test_figure_2_the_gap_shrinks_as_k_grows(curve: Curve) -> None:
    gaps = [curve[k]["e2e-CEL"] - curve[k]["RS"] for k in (4, 14, 28, 55)]
    assert gaps == sorted(gaps, reverse=True)


def test_figure_2_all_are_equal_at_k_of_n(curve: Curve) -> None:
    at_n = curve[55]
    assert at_n["e2e-CEL"] == pytest.approx(at_n["RS"]) == at_n["UA"]


def test_figure_2_the_best_k_is_neither_1_nor_n(curve: Curve) -> None:
    smart = {k: accuracy["e2e-CEL"] for k, accuracy in curve.items()}
    assert smart[1] < max(smart.values()) > smart[55]


def test_every_number_of_the_report_is_in_the_results(reproduced: Path) -> None:
    report = (reproduced / "report.md").read_text()
    (seed,) = json.loads((reproduced / "results.json").read_text())["seeds"]
    assert f"`python launch/reproduce.py {' '.join(QUICK)}`" in report
    table_4 = report[report.index("Table 4, ") : report.index("Table 5, ")]
    for title, accuracy in seed["accuracy"].items():
        cells = rf"\| {re.escape(title)} +\| [^|]+ \| {100 * accuracy:.2f} "
        assert re.search(cells, table_4), title
    run = json.loads((reproduced.parent / "digits-quick-seed0" / "results.json").read_text())
    assert seed["accuracy"]["e2e-CEL"] == run["accuracy"]["e2e_cel"]
    assert seed["accuracy"]["SL"] == pytest.approx(run["accuracy"]["super_learner"])
    assert seed["accuracy"]["mean base learner"] == run["overall"]
    for title, error in seed["calibration_error"].items():
        both = rf"{100 * seed['accuracy'][title]:.2f} +\| {100 * error:.2f} "
        assert re.search(rf"\| {re.escape(title)} +\| .* {both}", report), title
    for title, by_class in seed["class_accuracy"].items():
        cells = r" +\| ".join(f"{100 * by_class[digit]:.2f}" for digit in "0123456789")
        assert re.search(rf"\| {re.escape(title)} +\| {cells} ", report), title
    assert "Table 9" not in report  # digits have no slices


def test_the_results_file_and_mlflow_say_the_same(reproduced: Path) -> None:
    root = reproduced.parents[1]
    in_file = (root / "RESULTS.md").read_text().replace("figures/digits-quick/", "./")
    report = (reproduced / "report.md").read_text()
    assert in_file == f"# Results\n\n#{report}"
    assert_mlflow_has(reproduced, "digits, preset quick")


def assert_mlflow_has(folder: Path, title: str) -> None:
    """The one reproduction of this title has the accuracy of every rule."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder.parent / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "distcel digits")
    query = f"tags.`mlflow.runName` = 'reproduction of {title}'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert run.info.status == "FINISHED"
    (seed,) = json.loads((folder / "results.json").read_text())["seeds"]
    for rule, accuracy in seed["accuracy"].items():
        assert run.data.metrics[f"accuracy/{rule}"] == accuracy


def test_the_cost_of_each_k_is_in_the_report(reproduced: Path, curve: Curve) -> None:
    report = (reproduced / "report.md").read_text()
    results = json.loads((reproduced / "results.json").read_text())
    (seed,), points = results["seeds"], results["cost"]
    of_smart = {point["k"]: point for point in points if point["rule"] == "e2e-CEL"}
    assert set(of_smart) >= set(curve)
    net, learner = (seed["multiply_adds"][name] for name in ("selection_net", "learner"))
    for k, accuracy in curve.items():
        assert of_smart[k]["multiply_adds"] == net + k * learner
        assert of_smart[k]["accuracies"] == [accuracy["e2e-CEL"]]
    for point in points:
        cells = f"{point['multiply_adds'] / 1e6:.3f} +\\| {100 * point['accuracies'][0]:.2f} "
        assert re.search(rf"\| {point['rule']} +\| {point['k']} +\| {cells}", report), point
    assert of_smart[1]["on_front"]  # nothing is cheaper


def test_the_figures_are_there_twice(reproduced: Path) -> None:
    for name in ("figure2", "pareto"):
        assert (reproduced / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (reproduced / f"{name}.svg").read_bytes()


def test_the_same_command_again_trains_nothing_and_says_the_same(reproduced: Path) -> None:
    before = (reproduced / "report.md").read_text()
    ran = command(reproduced.parents[1], *QUICK)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "0 base learners trained, 55 from the cache" in ran.stdout
    after = ran.stdout[ran.stdout.index("# digits, preset quick\n") :]
    last = "\n\nSeed 0 was last launched on "
    assert after.partition(last)[0] == before.partition(last)[0]  # its times as well
    assert "The trainings of all seeds took" in before.partition(last)[0]


def test_another_launch_in_between_is_noticed(
    reproduced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reproduced.parents[1])
    file = reproduced.parent / "digits-quick-seed0" / "results.json"
    of_this_launch = file.read_text()
    results = json.loads(of_this_launch)
    results["best"]["k"] += 1
    file.write_text(json.dumps(results))
    pool = WorkerPool(1, 1.0, 0.0)
    with pytest.raises(RunFailedError, match="another launch has replaced its results"):
        reproduce._outcome(reproduce.parser().parse_args([]), [], 0, pool)
    file.write_text(of_this_launch)
    search = file.parent / "search"
    search.rename(file.parent / "search of other code")
    with pytest.raises(RunFailedError, match="the code was edited before its launch"):
        reproduce._outcome(reproduce.parser().parse_args([]), [], 0, pool)
    (file.parent / "search of other code").rename(search)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_launch_ends_with_the_reproduction_that_started_it(number: signal.Signals) -> None:
    launched = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    starter = (
        "import sys; from launch import reproduce, signals; signals.unwind_on_signals(); "
        "reproduce._launch(sys.argv[1:])"
    )
    command = [sys.executable, "-c", starter, sys.executable, "-c", launched]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(next(line for line in process.stdout if line.strip().isdigit()))
        process.send_signal(number)
        deadline = time.monotonic() + 60
        while _runs(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = _runs(pid)
        if left:
            os.kill(pid, signal.SIGKILL)  # for which the starter may wait
    assert not left


def _runs(pid: int) -> bool:
    """A process that has ended may be there, as a zombie, until somebody asks how it did."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_tracking_uri_is_in_no_command_that_is_written_down() -> None:
    words = ["--seeds", "2", "--mlflow-uri", "http://me:secret@host", "--preset", "smoke"]
    assert reproduce._without_uri(words) == "--seeds 2 --preset smoke"
    assert reproduce._without_uri(["--mlflow-uri=http://me:secret@host", "--beyond"]) == "--beyond"


def test_a_selector_split_is_a_reproduction_of_its_own(cross_fitted: CrossFitted) -> None:
    folder = cross_fitted.runs / "reproduce-digits-smoke-crossfit"
    report = (folder / "report.md").read_text()
    assert report.startswith("# digits, preset smoke, selector split crossfit\n")
    (seed,) = json.loads((folder / "results.json").read_text())["seeds"]
    assert seed["results"]["selector_split"] == "crossfit"
    # The rules that reproduce.py fits once more are fitted on the same predictions.
    assert seed["accuracy"]["e2e-CEL"] == seed["results"]["accuracy"]["e2e_cel"]
    assert seed["accuracy"]["SL"] == pytest.approx(seed["results"]["accuracy"]["super_learner"])


def test_what_the_paper_does_not_have_is_in_the_report(cross_fitted: CrossFitted) -> None:
    folder = cross_fitted.runs / "reproduce-digits-smoke-crossfit"
    report = (folder / "report.md").read_text()
    (seed,) = json.loads((folder / "results.json").read_text())["seeds"]
    beyond = {"soft gating", "straight-through top-k", "single network", "brief single network"}
    beyond |= {"e2e-CEL by Eq. 7"}  # which any reproduction has
    assert set(seed["trained"]) == beyond
    single, brief = (seed["trained"][title] for title in ("single network", "brief single network"))
    assert single["lr"] == brief["lr"]
    learned, title = seed["learned_vote"]["params"], "learned vote of few"
    assert 1 <= learned["k"] <= 18
    assert learned["vote"] == "learned"
    assert re.search(rf"\| seed 0, {title} +\| 55 +\| {learned['k']} +\|", report)
    assert set(seed["against"]) == {"e2e-CEL", title}
    lead = seed["against"][title]["SL"]["mean"]
    assert lead == pytest.approx(seed["accuracy"][title] - seed["accuracy"]["SL"])
    for run in seed["gradients"]["runs"]:
        gradient, m = run["estimator"]["gradient"], run["estimator"]["m"]
        title = gradient if gradient == "exact" else f"{gradient}, m = {m:,}"
        valid, test = run["epochs"][-1]["valid_accuracy"], run["test_accuracy"]
        assert re.search(rf"\| {title} +\| {100 * valid:.2f} +\| {100 * test:.2f} ", report), title
    assert len(seed["gradients"]["runs"]) == 8
    assert_mlflow_has(folder, "digits, preset smoke, selector split crossfit")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "expected a whole number --seeds >= 1, but got 0"),
        (["--seed", "3"], "expected no --seed beside --seeds, but got 3"),
        (["--run-dir", "x"], "expected no --run-dir beside --seeds, but got"),
        (["--dry-run"], "expected no --dry-run beside --seeds, but got"),
        (["--fix", "vote=learned"], "expected no --fix vote=learned beside --seeds, but got"),
        (["--dataset", "nope"], "--dataset in"),
        (["--seeds", "two"], "argument --seeds: invalid int value: 'two'"),
        (["--num-samples", "two"], "argument --num-samples: invalid int value: 'two'"),
        (["--results-dir", "/dev/null"], "--results-dir and --results-file that can be written"),
        (["--results-dir", "/proc"], "--results-dir and --results-file that can be written"),
        (["--results-file", "."], "--results-dir and --results-file that can be written"),
        (["--results-file", "no/FILE"], "--results-file in a folder that exists"),
        (
            ["--beyond", "--selector-split", "holdout"],
            "no --beyond beside --selector-split holdout",
        ),
        (["--selector-split", "nope"], "--selector-split in"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    ran = command(tmp_path, *arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: ")
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_its_flags_are_not_cluster_py_s() -> None:
    own, others = (
        {option for action in parser()._actions for option in action.option_strings}
        for parser in (reproduce.parser, cluster.parser)
    )
    assert own & others == {"-h", "--help"}
