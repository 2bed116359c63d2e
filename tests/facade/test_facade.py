"""`import distcel` as a user has it: fit, compare, reproduce, and the run that they return."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import distcel
from distcel.data.splits import load_splits
from distcel.search.trials import TrialStore
from distcel.train.selection import SelectionTraining
from tests import made_data as data


def fit(run_dir: Path, **options: Any) -> distcel.Run:
    return distcel.fit(
        "digits", preset="smoke", run_dir=run_dir, executor="inline", mlflow_uri="none", **options
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> distcel.Run:
    return fit(tmp_path_factory.mktemp("facade") / "run")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, distcel; print(sorted({n.split('.')[0] for n in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("torch", "ray", "numpy", "optuna", "mlflow", "pandas"):
        assert f"'{heavy}'" not in ran.stdout


def test_all_that_it_offers_can_be_had() -> None:
    for name in distcel.__all__:
        assert getattr(distcel, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = distcel.nothing


def test_a_run_prints_nothing_and_has_its_results(
    run: distcel.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    again = fit(run.run_dir)
    assert capfd.readouterr() == ("", "")
    assert again.results["accuracy"] == run.results["accuracy"]
    assert run.best.as_dict() == run.results["best"]
    assert list(run.trials()["state"]) == ["COMPLETE"] * run.results["n_trials"]
    assert run.leaderboard()["accuracy"].is_monotonic_decreasing
    assert distcel.load_run(run.run_dir).best == run.best
    assert len(run.ensemble.class_names) == 10
    assert [trial.value for trial in run.study.trials] == list(run.trials()["valid_accuracy"])
    assert run.study.best_value == run.trials()["valid_accuracy"].max()
    storage = JournalStorage(JournalFileBackend(str(run.run_dir / "optuna.journal")))
    shown = optuna.load_study(study_name="digits, preset smoke, seed 0", storage=storage)
    assert [t.intermediate_values for t in shown.trials] == [
        t.intermediate_values for t in run.study.trials
    ]
    assert shown.best_params == run.study.best_params
    confusion = json.loads((run.run_dir / "details.json").read_text())["confusion"]
    right = sum(row[i] for i, row in enumerate(confusion))
    assert right / run.results["n_samples"]["test"] == run.results["accuracy"]["e2e_cel"]
    assert "<h2" in (run.run_dir / "report.html").read_text()


def test_of_one_net_for_every_k_the_best_on_valid_is_measured(run: distcel.Run) -> None:
    over_k = run.results["valid_accuracy_over_k"]
    assert len(over_k) == 55
    assert run.best.k == 1 + over_k.index(max(over_k))
    assert run.results["valid_accuracy"] == max(over_k)
    assert set(run.trials()["k"]) == {"any"}
    assert (
        json.loads((run.run_dir / "ensemble" / "ensemble.json").read_text())["params"]["k"]
        == run.best.k
    )


def test_a_pruned_ensemble_is_as_it_was_on_valid_and_measured_on_test(
    run: distcel.Run, tmp_path: Path
) -> None:
    shutil.copytree(run.run_dir, tmp_path / "run")
    whole = fit(tmp_path / "run", fixed={"k": 6}, num_samples=1)
    assert whole.results["pruned"] is None
    assert len(whole.ensemble.learner_names) == 55
    results = fit(tmp_path / "run", fixed={"k": 6}, num_samples=1, prune=True).results
    pruned, found = distcel.load_ensemble(tmp_path / "run"), results["pruned"]
    experiment = distcel.load_experiment("digits", "smoke")
    splits = load_splits(experiment, tmp_path, tmp_path / "run" / "data", seed=0)
    valid, test = (np.asarray(splits[name].images_SCHW, np.uint8) for name in ("valid", "test"))
    kept_N = whole.ensemble.selected(valid).any(0)
    assert found["kept"] == np.flatnonzero(kept_N).tolist()
    assert 6 <= len(pruned.learners) == len(found["kept"]) < 55
    assert pruned.predict(valid) == whole.ensemble.predict(valid)
    asks_others = whole.ensemble.selected(test)[:, ~kept_N].any(1)
    assert found["n_changed"] == asks_others.sum() > 0
    truth = [splits.class_names[c] for c in splits["test"].labels_S]
    hits = sum(a == b for a, b in zip(pruned.predict(test), truth, strict=True))
    assert found["accuracy"] == hits / found["n_test"] == hits / len(truth)
    assert results["accuracy"] == whole.results["accuracy"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"`ensemble/` has {len(found['kept'])} of 55 base learners" in report
    assert "--fix k=6 --prune" in (tmp_path / "run" / "report.html").read_text()


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(distcel.InvalidInputError, match="expected a run directory"):
        distcel.load_run(tmp_path)


def test_the_same_call_continues_an_interrupted_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epoch = SelectionTraining.run_epoch

    def interrupted(training: SelectionTraining) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(SelectionTraining, "run_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", num_samples=1)
    weights = tmp_path / "run" / "learners" / "weights"
    before = {path: path.stat().st_mtime_ns for path in weights.iterdir()}
    assert len(before) == 2 * 55  # a digest beside each
    monkeypatch.setattr(SelectionTraining, "run_epoch", run_epoch)
    done = fit(tmp_path / "run", num_samples=1)
    assert {path: path.stat().st_mtime_ns for path in weights.iterdir()} == before
    assert list(done.trials()["state"]) == ["COMPLETE"]


def test_a_comparison_has_every_rule_until_the_run_chooses_otherwise(run: distcel.Run) -> None:
    few = list(run.leaderboard().index)
    every = list(distcel.compare(run, executor="inline").index)
    assert set(few) - {"single_mean"} < set(every)
    assert list(run.leaderboard().index) == every
    facts = json.loads((run.run_dir / "run.json").read_text())
    assert (facts["dataset"], facts["preset"]) == ("digits", "smoke")
    path = run.run_dir / "comparison.json"
    comparison = json.loads(path.read_text())
    path.write_text(json.dumps(comparison | {"best": {**comparison["best"], "k": 1}}))
    assert list(run.leaderboard().index) == few


def test_the_multiply_adds_of_an_ensemble_are_those_that_its_run_counts(run: distcel.Run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 16, 16), dtype=np.uint8)
    counted = run.results["rules"]["e2e_cel"]["multiply_adds"]
    assert distcel.multiply_adds_of([run.ensemble], images) == [counted]


def test_a_run_whose_trials_went_on_is_not_compared(run: distcel.Run) -> None:
    facts = json.loads((run.run_dir / "run.json").read_text())
    store = TrialStore(run.run_dir / "search" / facts["search_key"] / "trials")
    better = replace(store[0].epochs[0], valid_accuracy=1.0)
    added = replace(store[0], number=99, params=replace(run.best, k=33), epochs=(better,))
    store.keep(added)
    try:
        with pytest.raises(distcel.InvalidInputError, match=r"of which results\.json has the best"):
            distcel.compare(run, executor="inline")
    finally:
        (store.folder / "00099.json").unlink()


@pytest.mark.parametrize("uri", ["foo", "./mlruns", "oracle://host"])
def test_a_tracking_uri_that_mlflow_cannot_log_to_is_refused_before_anything_is_written(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (distcel.fit, distcel.reproduce):
        with pytest.raises(distcel.InvalidInputError, match="an MLflow URI beg") as error:
            call("digits", preset="smoke", executor="inline", mlflow_uri=uri)
        assert "secret" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"fixed": {"vote": "learned"}}, "without vote fixed to learned"),
        ({"selector_split": "holdout", "beyond": True}, "without beyond, or without selector"),
    ],
)
def test_what_cannot_be_compared_is_refused_without_the_names_of_flags(
    chosen: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(distcel.InvalidInputError, match=message) as error:
        distcel.reproduce(
            "digits", preset="smoke", executor="inline", results_dir=tmp_path, **chosen
        )
    assert "--" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_arrays_are_fitted_continued_by_their_content_and_needed_by_a_comparison(
    tmp_path: Path,
) -> None:
    labels = data.balanced(3, 30)
    images = data.pictures(labels, 1, 16, 0)
    experiment = replace(
        distcel.load_experiment("arrays", "smoke"),
        architecture=distcel.Architecture("lenet", (2, 3)),
        learner_sets="singles",
        num_samples=1,
    )

    def fit_arrays() -> distcel.Run:
        return distcel.fit(
            experiment,
            X=images.copy(),
            y=[("ant", "bee", "cow")[label] for label in labels],
            run_dir=tmp_path / "run",
            executor="inline",
            mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        )

    run = fit_arrays()
    assert run.results["n_learners"] == run.results["n_classes"] == 3
    assert run.ensemble.class_names == ("ant", "bee", "cow")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "data").iterdir()}
    weights = {p: p.stat().st_mtime_ns for p in (tmp_path / "run/learners/weights").iterdir()}
    fit_arrays()
    for path, time in (files | weights).items():
        assert path.stat().st_mtime_ns == time
    loaded = distcel.load_run(run.run_dir, experiment)
    with pytest.raises(distcel.InvalidInputError, match="the images that fit had, as X"):
        distcel.compare(loaded, executor="inline")
    facts = (run.run_dir / "run.json").read_text()
    named = [("ant", "bee", "cow")[label] for label in labels]
    with pytest.raises(distcel.InvalidInputError, match="'others': give the same, or call fit"):
        distcel.compare(loaded, X=images + 1, y=named, executor="inline")
    assert (run.run_dir / "run.json").read_text() == facts
    every = distcel.compare(loaded, X=images, y=named, executor="inline")
    assert {"e2e-CEL", "logistic stacking", "constant control"} <= set(every.index)


def test_images_and_a_named_data_set_exclude_each_other(tmp_path: Path) -> None:
    options: dict[str, Any] = {"run_dir": tmp_path / "run", "mlflow_uri": "none"}
    with pytest.raises(distcel.InvalidInputError, match="images as X for the data set arrays"):
        distcel.fit(**options)
    with pytest.raises(distcel.InvalidInputError, match="or an Experiment beside X, but got 'dig"):
        distcel.fit("digits", X=[], y=[], **options)
    with pytest.raises(distcel.InvalidInputError, match="X beside y, X_test and y_test"):
        distcel.fit("digits", y=[1], **options)
    assert list(tmp_path.iterdir()) == []
