import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from distcel import pipeline
from distcel.evaluate.compare import accuracy_over_k, compare_run, curve_ks
from distcel.evaluate.measures import SMART
from distcel.execute.pool import WorkerPool
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import SplitName
from distcel.rules.consensus import Draws
from distcel.rules.registry import said_by_rules
from distcel.search.prepare import Options, Prepared, prepare
from distcel.train.cache import CachedSplit
from distcel.train.selection import SelectionTask
from tests import made_data as data
from tests.cached_splits import split_of


def sure(classes_S: np.ndarray) -> Draws:
    """One draw that is all but certain of the classes."""
    return 0.9 * np.eye(4)[None, classes_S] + 0.025


def test_the_values_of_k_span_all_and_hold_the_chosen() -> None:
    assert curve_ks(55, chosen=17) == [1, 2, 4, 7, 14, 17, 18, 28, 55]
    assert curve_ks(3, chosen=2) == [1, 2, 3]


def test_figure_2_by_hand() -> None:
    train, valid, test = split_of(0), split_of(1), split_of(2, n_samples=100)
    wrong = np.where(np.arange(100) < 25, (test.labels_S + 1) % 4, test.labels_S)
    said, _ = said_by_rules(train, valid, test, k=3, seed=0, selector_split="train")
    curve = accuracy_over_k({2: sure(test.labels_S), 3: sure(wrong)}, said, train, test, seed=0)
    assert (curve[2][SMART], curve[3][SMART]) == (1.0, 0.75)
    average = (said["UA"][0].argmax(-1) == test.labels_S).mean()
    assert curve[2]["UA"] == curve[3]["UA"] == average
    assert curve[3]["RS"] == (said["RS"].argmax(-1) == test.labels_S).mean() != curve[2]["RS"]


def test_random_selection_of_all_is_the_unweighted_average() -> None:
    train, test = split_of(0), split_of(2)
    said, _ = said_by_rules(train, split_of(1), test, k=6, seed=0, selector_split="train")
    curve = accuracy_over_k({6: sure(test.labels_S)}, said, train, test, seed=0)
    assert curve[6]["RS"] == pytest.approx(curve[6]["UA"])


@pytest.fixture
def prepared(pool: WorkerPool, tmp_path: Path) -> Prepared:
    """A finished run on made-up faces of nobody."""
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
    pipeline.run(found, pool)
    return found


def test_rivals_are_trained_and_chosen_on_valid_before_test_is_read(
    prepared: Prepared, pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {name: prepared.cached(name).labels_S for name in ("train", "valid", "test")}
    cached, put = Prepared.cached, ray.put
    kept_when_read: dict[str, int] = {}
    tasks: list[SelectionTask] = []
    fitted: list[CachedSplit] = []
    rules = prepared.search_folder / "rules"

    def noted(of: Prepared, split: SplitName) -> CachedSplit:
        kept_when_read[split] = len(list(rules.glob("*.safetensors")))
        return cached(of, split)

    def noting_tasks(thing: Any) -> Any:
        tasks.append(thing)
        return put(thing)

    def noting_splits(*arguments: Any) -> Any:
        fitted.extend(arguments[:3])
        return said_by_rules(*arguments)

    monkeypatch.setattr(Prepared, "cached", noted)
    monkeypatch.setattr(ray, "put", noting_tasks)
    monkeypatch.setattr("distcel.evaluate.compare.said_by_rules", noting_splits)
    found = compare_run(prepared, pool, beyond=False, gradients=False)

    n_kept = len(list(rules.glob("*.safetensors")))
    assert kept_when_read == {"train": 0, "valid": 0, "test": n_kept}
    assert n_kept > len(found.curve)
    (task,) = (thing for thing in tasks if isinstance(thing, SelectionTask))
    for split, name in [(task.train, "train"), (task.valid, "valid")]:
        np.testing.assert_array_equal(split.labels_S, labels[name])
    for split, name in zip(fitted, ("train", "valid", "test"), strict=True):
        np.testing.assert_array_equal(split.labels_S, labels[name])
    run = json.loads((prepared.options.run_dir / "results.json").read_text())
    assert found.valid_curve[run["best"]["k"]] == run["valid_accuracy"]
    assert found.curve[run["best"]["k"]][SMART] == run["accuracy"]["e2e_cel"]
    seen = {name: size for name, size in found.measures.slice_sizes.items() if size}
    assert seen == {"male": len(labels["test"]), "Black": len(labels["test"])}
