import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcel import pipeline
from distcel.data.splits import Split
from distcel.evaluate.compare import accuracy_over_k, compare_run
from distcel.evaluate.trainings import curve_ks
from distcel.execute.inline import InlineExecutor
from distcel.experiment.learner_sets import Clients, LearnerSets
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SplitName
from distcel.facade.fit import compare, fit
from distcel.report.document import reproduction_report
from distcel.rules.registry import consensus_rules, predict_rules
from distcel.rules.rule import ProbsDSC
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.train.selection import TrainingTask
from tests import made_data as data
from tests.cached_splits import made_splits, options_of, split_of
from tests.evaluate.test_metrics import sure
from tests.rules.test_gating import task_of

TEST = split_of(2, n_samples=100)


def test_the_values_of_k_span_all_and_have_the_chosen() -> None:
    assert curve_ks(55, chosen=17) == [1, 2, 4, 7, 14, 17, 18, 28, 55]
    assert curve_ks(3, chosen=2) == [1, 2, 3]


def figure_2(
    smart_by_k: dict[int, ProbsDSC], k: int
) -> tuple[dict[int, dict[str, float]], dict[str, ProbsDSC]]:
    """The accuracies by k and by rule, and the other rules' probabilities at k."""
    train, valid = split_of(0), split_of(1)
    probs, _ = predict_rules(consensus_rules("train"), train, TEST, options_of(valid, k))
    task = replace(task_of(epochs=1), splits=made_splits(train, valid))
    points = accuracy_over_k(smart_by_k, probs, task, TEST)
    return {point["k"]: point["accuracy"] for point in points}, probs


def test_figure_2_by_hand() -> None:
    wrong = np.where(np.arange(100) < 25, (TEST.labels_S + 1) % 4, TEST.labels_S)
    curve, probs = figure_2({2: sure(TEST.labels_S), 3: sure(wrong)}, k=3)
    assert (curve[2]["e2e_cel"], curve[3]["e2e_cel"]) == (1.0, 0.75)
    average = (probs["unweighted_average"][0].argmax(-1) == TEST.labels_S).mean()
    assert curve[2]["unweighted_average"] == curve[3]["unweighted_average"] == average
    random = (probs["random_selection"].argmax(-1) == TEST.labels_S).mean()
    assert curve[3]["random_selection"] == random != curve[2]["random_selection"]


def test_random_selection_of_all_is_the_unweighted_average() -> None:
    curve, _ = figure_2({6: sure(TEST.labels_S)}, k=6)
    assert curve[6]["random_selection"] == pytest.approx(curve[6]["unweighted_average"])


@pytest.mark.parametrize(
    ("learner_sets", "compared"), [("singles", False), (Clients(3, 1.0), True)]
)
def test_on_a_holdout_a_single_network_is_compared_beside_federated_clients_alone(
    learner_sets: LearnerSets, compared: bool, tmp_path: Path
) -> None:
    experiment = replace(load_experiment("digits", "smoke"), learner_sets=learner_sets)
    run = fit(
        experiment,
        run_dir=tmp_path / "run",
        num_samples=1,
        selector_split="holdout",
        mlflow_uri="none",
        executor="inline",
    )
    found = compare(run, executor="inline")
    assert ("brief single network" in found.index) == compared


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A finished run on made-up faces."""
    data.write_utkface(tmp_path / "data", per_class=40)
    options = Options(
        preset="smoke",
        data_dir=tmp_path / "data",
        run_dir=tmp_path / "run",
        seed=0,
        num_samples=None,
        time_budget=None,
        mlflow_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        fixed={"m": 2},
    )
    found = prepare(load_experiment("utkface", "smoke"), options)
    pipeline.launch(found, InlineExecutor())
    return found


def test_rules_are_trained_and_chosen_on_valid_before_test_is_read(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {name: prepared.cached(name).labels_S for name in ("train", "valid", "test")}
    cached, share = Prepared.cached, InlineExecutor.share
    kept_when_read: dict[str, int] = {}
    tasks: list[TrainingTask] = []
    fitted: list[Split] = []
    rules = prepared.search_folder / "rules"

    def noted(of: Prepared, split: SplitName) -> Split:
        kept_when_read[split] = len(list(rules.glob("*.safetensors")))
        return cached(of, split)

    def noting_tasks(executor: InlineExecutor, data: Any) -> Any:
        tasks.append(data)
        return share(executor, data)

    def noting_splits(*arguments: Any) -> Any:
        fitted.extend([arguments[1], arguments[3].valid, arguments[2]])
        return predict_rules(*arguments)

    monkeypatch.setattr(Prepared, "cached", noted)
    monkeypatch.setattr(InlineExecutor, "share", noting_tasks)
    monkeypatch.setattr("distcel.evaluate.compare.predict_rules", noting_splits)
    found = compare_run(prepared, InlineExecutor(), beyond=False, gradients=False)

    n_kept = len(list(rules.glob("*.safetensors")))
    assert kept_when_read == {"train": 0, "valid": 0, "test": n_kept}
    assert n_kept > len(found["over_k"])
    (task,) = (thing for thing in tasks if isinstance(thing, TrainingTask))
    assert set(task.splits.by_name) == {"train", "valid"}  # no trial gets labels of test
    for split, name in [(task.train, "train"), (task.valid, "valid")]:
        np.testing.assert_array_equal(split.labels_S, labels[name])
    for split, name in zip(fitted, ("train", "valid", "test"), strict=True):
        np.testing.assert_array_equal(split.labels_S, labels[name])
    run = json.loads((prepared.options.run_dir / "results.json").read_text())
    (point,) = (point for point in found["over_k"] if point["k"] == run["best"]["k"])
    assert point["valid_accuracy"] == run["valid_accuracy"]
    assert point["calibration"] == run["calibration"]
    assert point["multiply_adds"] == found["rules"]["e2e_cel"]["multiply_adds"]
    after = run["calibration"]["after"]["calibration_error"]
    assert found["rules"]["e2e_cel"]["calibration_error"] == after
    assert (run["test_readings"], found["test_readings"]) == (1, 2)
    ks = {
        key: found["rules"][f"{key}_control"]["training"]["k"] for key in ("constant", "shuffled")
    }
    assert all(1 <= k <= 15 for k in ks.values())
    assert point["accuracy"]["e2e_cel"] == run["accuracy"]["e2e_cel"]
    for key, rule in run["rules"].items():  # the launch measured the paper's rules itself
        assert found["rules"][key] == {**found["rules"][key], **rule}
        assert found["rules"][key]["accuracy"] == run["accuracy"][key]
    seen = {name: size for name, size in found["slice_sizes"].items() if size}
    assert seen == {"male": len(labels["test"]), "Black": len(labels["test"])}
    assert json.loads(json.dumps(found)) == found  # it is plain data
    assert {"e2e_cel_eq_7", "brief_single_network"} <= set(found["rules"])
    assert "single_network" not in found["rules"]
    text = reproduction_report(
        {"command": "command", "seeds": [{"launch": run, "comparison": found}]}
    )
    assert "Table 9, " in text
