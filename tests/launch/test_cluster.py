"""The command line, as a user types it."""

import json
import re
import signal
import subprocess
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient

from distcel.cli.main import main
from distcel.cli.status import read_status
from distcel.data.sample_table import read_samples
from distcel.serve.saved import load_ensemble
from distcel.storage.provenance import describe_commit, describe_worker
from tests.launch.conftest import CrossFitted, command_line, launch
from tests.made_data import save_image
from tests.terminal import run_in_terminal

ROOT = Path(__file__).parents[2]


def test_the_second_launch_trains_nothing_and_reports_the_same(
    launched: tuple[Path, list[str]],
) -> None:
    _, (first, second) = launched
    assert "55 base learners trained, 0 from the cache" in first
    assert re.search(r"^base learner 55/55 [\w+]+: \d+ s, 0 s to go$", first, re.MULTILINE)
    assert re.search(r"^trial \d+: valid 0\.\d{4} .+, 16/16 trials$", first, re.MULTILINE)
    assert "0 base learners trained, 55 from the cache" in second
    assert "\ntrial " not in second
    tables = [text[text.index("# digits") : text.index("results.json")] for text in launched[1]]
    assert tables[0].splitlines()[:-1] == tables[1].splitlines()[:-1]
    assert re.search(r"dashboard http://127\.0\.0\.1:\d+", first)
    assert "mlflow ui" in first


def test_the_smart_ensemble_beats_the_unweighted_average(
    launched: tuple[Path, list[str]],
) -> None:
    accuracy = json.loads((launched[0] / "results.json").read_text())["accuracy"]
    assert accuracy["e2e_cel"] > accuracy["unweighted_average"]


def test_half_written_files_of_a_killed_launch_are_removed(
    launched: tuple[Path, list[str]],
) -> None:
    assert (launched[0] / "learners" / "weights").is_dir()
    assert list(launched[0].rglob(".partial-*")) == []


def test_results_json_has_the_documented_keys(launched: tuple[Path, list[str]]) -> None:
    run_dir, _ = launched
    results = json.loads((run_dir / "results.json").read_text())
    page = (ROOT / "docs" / "run-directory.md").read_text()
    table = page[page.index("| key | content |") :].split("\n\n")[0].splitlines()[2:]
    keys = [name for row in table for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    inner = {row.split("|")[1].strip(" `"): re.findall(r"`(\w+)`", row) for row in table}
    assert list(results) == keys
    assert list(results["best"]) == inner["best"][1:]
    assert list(results["accuracy"]) == inner["accuracy"][1:]
    assert (results["dataset"], results["preset"], results["seed"]) == ("digits", "quick", 0)
    assert (results["n_learners"], results["n_classes"]) == (55, 10)
    fractions = [*results["accuracy"].values(), results["valid_accuracy"], results["overall"]]
    assert all(0 <= fraction <= 1 for fraction in fractions)
    assert results["selector_split"] == "train"
    assert results["paper"] is None
    assert list(results["seconds"]) == ["base_learners", "search", "refit"]
    assert all(seconds > 0 for seconds in results["seconds"].values())
    assert results["commit"] == describe_commit()
    (worker,) = results["workers"]
    assert worker.items() >= describe_worker().items()
    assert [worker[stage] for stage in ("base_learners", "trials", "refit")] == [55, 16, 1]


def test_mlflow_has_one_parent_and_a_child_a_trial(launched: tuple[Path, list[str]]) -> None:
    run_dir, _ = launched
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("distcel digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "digits, preset quick, seed 0"]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len(children) == 16
    for run in children:
        assert set(run.data.params) == {"k", "epsilon", "m", "lr", "gradient", "vote"}
        history = client.get_metric_history(run.info.run_id, "valid_accuracy")
        assert [metric.step for metric in history] == list(range(1, len(history) + 1))
    title, _, tables = (run_dir / "report.md").read_text().partition("\n\n")
    assert title == f"# {parent.info.run_name}"
    assert parent.data.tags["mlflow.note.content"] == tables
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"report.md", "report.html", "results.json", "run.json"} <= artifacts
    assert parent.data.params["space.epsilon"]
    assert parent.inputs is not None
    assert parent.inputs.dataset_inputs[0].dataset.name == "digits"
    assert "test_e2e_cel" in parent.data.metrics


def test_the_saved_ensemble_is_the_one_that_was_measured(
    launched: tuple[Path, list[str]],
) -> None:
    run_dir, _ = launched
    results = json.loads((run_dir / "results.json").read_text())
    (path,) = (run_dir / "data").glob("test-*.arrow")
    test = read_samples(path, "image")
    ensemble = load_ensemble(run_dir)
    measured = ensemble.predict_proba(test.values)
    assert (measured.argmax(-1) == test.labels).mean() == pytest.approx(
        results["accuracy"]["e2e_cel"]
    )
    tempered = results["calibration"]["after"]["negative_log_likelihood"]
    found = -np.log(measured[np.arange(len(measured)), test.labels]).mean()
    assert found == pytest.approx(tempered, rel=1e-4)
    assert ensemble.temperature == results["calibration"]["temperature"] != 1

    (model,) = (run_dir.parent / "mlflow-artifacts" / "models").glob("*/artifacts")
    probs = mlflow.pyfunc.load_model(str(model)).predict(np.array(test.values))
    np.testing.assert_allclose(probs, ensemble.predict_proba(test.values), rtol=1e-4)


@pytest.mark.parametrize("selector_split", ["holdout", "crossfit"])
def test_a_selector_split_is_a_run_of_its_own(
    selector_split: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    runs, groups, outputs = tmp_path / "runs", 1, []
    if selector_split == "crossfit":  # which a reproduction has launched
        cross_fitted: CrossFitted = request.getfixturevalue("cross_fitted")
        runs, groups, outputs = cross_fitted.runs, 4, [cross_fitted.output]
    while len(outputs) < 2:
        flags = ["--preset", "smoke", "--selector-split", selector_split, "--executor", "inline"]
        ran = launch("cluster.py", *flags, folder=runs.parent)
        assert (ran.returncode, ran.stderr) == (0, "")
        outputs.append(ran.stdout)
    trained = [re.findall(r"(\d+) .+ trained, (\d+) from the cache", text) for text in outputs]
    assert trained == [[("55", "0")] * groups, [("0", "55")] * groups]

    run_dir = runs / f"digits-smoke-{selector_split}-seed0"
    results = json.loads((run_dir / "results.json").read_text())
    assert results["selector_split"] == selector_split
    title = f"digits, preset smoke, selector split {selector_split}, seed 0"
    assert (run_dir / "report.md").read_text().startswith(f"# {title}\n")
    (path,) = (run_dir / "data").glob("test-*.arrow")
    test = read_samples(path, "image")
    chosen = load_ensemble(run_dir).predict_proba(test.values).argmax(-1)
    assert (chosen == test.labels).mean() == pytest.approx(results["accuracy"]["e2e_cel"])
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("distcel digits")
    assert experiment is not None
    (parent,) = client.search_runs(
        [experiment.experiment_id],
        f"params.selector_split = '{selector_split}' and params.seed = '0'",
    )
    assert parent.info.run_name == title


def test_a_signal_stops_the_launch_and_the_same_command_continues_it(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = ["--run-dir", run_dir, "--preset", "smoke", "--num-samples", 6]
    for n_cached, stop in ((1, stop_in_terminal), (55, stop_verbose)):
        stop(*arguments)
        assert not (run_dir / "results.json").exists()
        status = read_status(run_dir)
        assert status["launch"]["running"] is False
        assert status["learners"]["done"] >= n_cached
        assert status["stage"] == ("search" if n_cached == 55 else "base learners")
        assert (status["trials"]["complete"] >= 1) == (n_cached == 55)

    inline = [*arguments, "--executor", "inline"]
    seen = run_in_terminal(command_line("cluster.py", *inline))
    assert seen.status == 0
    report = (run_dir / "report.md").read_text()
    in_the_end = [line for line in seen.screen() if line]
    assert "0 base learners trained, 55 from the cache" in in_the_end
    lines = [line.rstrip() for line in report.splitlines() if line]
    assert in_the_end[-2 - len(lines) : -2] == lines
    assert in_the_end[-2].startswith(f"{run_dir}/results.json after ")
    for line in ("base learners   55/55 ", "trials            6/6 ", "best so far     valid 0."):
        assert line in seen.frames
        assert line not in "\n".join(in_the_end)
    assert "\ntrial " not in seen.frames
    ran = launch("cluster.py", *inline, "--quiet")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[:-1] == report.splitlines()[:-1]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("distcel digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 6
    assert {run.info.status for run in runs} == {"FINISHED"}


def stop_in_terminal(*arguments: object) -> None:
    """Launch in a terminal, and press Ctrl-C once a base learner is done."""
    command = command_line("cluster.py", *arguments)
    seen = run_in_terminal(command, r"base learners +[1-9]\d*/55 ", signal.SIGINT)
    assert seen.status == 128 + signal.SIGINT
    *_, title, learners, dashboard, note, empty = seen.screen()
    assert re.fullmatch(r"digits, preset smoke, seed 0: base learners, .+ so far", title)
    assert re.match(r"base learners +[1-9]\d*/55 .+ left, \d", learners)
    assert re.match(r"Ray dashboard +http://127\.0\.0\.1:\d+ ", dashboard)
    assert (note, empty) == ("SIGINT: stopping; the same command continues the run", "")


def stop_verbose(*arguments: object) -> None:
    """Launch with --verbose, and send SIGTERM once a trial is complete."""
    process = subprocess.Popen(
        command_line("cluster.py", *arguments, "-v"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.match(r"trial \d+: valid", line):
            break
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, error
    assert any(re.match(r"trial \d+: epoch 1, valid 0", line) for line in lines)
    assert "Started a local Ray instance." in error  # Ray's own log
    assert "\nSIGTERM: stopping; the same command continues the run\n" in error
    assert "results.json" not in out


def test_two_launches_on_one_run_directory_exclude_each_other(tmp_path: Path) -> None:
    flags = ["--run-dir", tmp_path, "--executor", "inline"]
    first = subprocess.Popen(command_line("cluster.py", *flags), stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline()
    running = read_status(tmp_path)["launch"]
    assert (running["running"], running["pid"]) == (True, first.pid)
    second = launch("cluster.py", *flags)
    assert second.returncode == 2
    assert f'"pid": {first.pid}' in second.stderr
    first.kill()
    first.communicate()
    assert read_status(tmp_path)["launch"]["running"] is False


def test_the_commands_agree_with_a_launch(
    launched: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, _ = launched
    status = read_status(run_dir)
    assert (status["stage"], status["damaged"]) == ("done", [])
    assert status["learners"] == {"done": 55, "n": 55, "unfinished": 0}
    assert (status["trials"]["asked"], status["trials"]["complete"]) == (16, 16)
    best = json.loads((run_dir / "results.json").read_text())["best"]
    assert status["trials"]["best"]["params"] == best | {"k": "any"}

    assert main(["report", str(run_dir)]) == 0
    assert capsys.readouterr().out.split() == (run_dir / "report.md").read_text().split()

    (path,) = (run_dir / "data").glob("test-*.arrow")
    test = read_samples(path, "image")
    photos = [tmp_path / f"{i}.png" for i in range(10)]
    for image, photo in zip(test.values, photos, strict=False):
        save_image(np.array(image), photo)
    assert main(["predict", str(run_dir), *map(str, photos), "--json"]) == 0
    found = [int(prediction["class"]) for prediction in json.loads(capsys.readouterr().out)]
    assert (np.array(found) == test.labels[:10]).sum() >= 8


@pytest.mark.parametrize(
    ("script", "flags"), [("cluster.py", ["--seed", "-1"]), ("reproduce.py", ["--seeds", "0"])]
)
def test_bad_input_of_a_script_is_one_line(script: str, flags: list[str]) -> None:
    ran = launch(script, *flags)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: expected ")
    assert ran.stderr.count("\n") == 1
