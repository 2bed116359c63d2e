"""distcel.select: predictors that were trained elsewhere, on real launches."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest
from distcel.search_spaces.select import experiment_of

import distcel
from distcel.data.sample_table import read_samples
from distcel.experiment.errors import InvalidInputError
from distcel.facade.run import Run

CLASSES = ("ant", "bee", "cow")


def _write(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 samples; `free` knows whether it is an ant, `dear` is always right, `poor` guesses."""
    folder, random = tmp_path_factory.mktemp("market"), np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    splits = np.array(["train"] * 150 + ["valid"] * 50 + ["test"] * 100)
    truth = [[f"s{i}", CLASSES[c], splits[i]] for i, c in enumerate(labels)]
    _write(folder / "truth.csv", [["sample_id", "label", "split"], *truth])
    (folder / "answers").mkdir()
    guess = random.integers(0, 3, 300)
    answers = {
        "free": [
            ("ant", 0.9 + random.uniform(0, 0.1)) if c == 0 else ("bee", random.uniform(0.4, 0.5))
            for c in labels
        ],
        "dear": [(CLASSES[c], 0.99) for c in labels],
        "poor": [(CLASSES[c], 0.5) for c in guess],
    }
    for name, given in answers.items():
        rows = [[f"s{i}", *answer] for i, answer in enumerate(given) if (name, i) != ("poor", 7)]
        _write(folder / "answers" / f"{name}.csv", [["sample_id", "label", "confidence"], *rows])
    (folder / "prices.json").write_text(json.dumps({"free": 0, "dear": 3, "poor": 1}))
    return folder


@pytest.fixture(scope="module")
def select(market: Path) -> Callable[..., Run]:
    def run(name: str, n_selectable: int | None = None, **options: Any) -> Run:
        if n_selectable:  # fewer epochs than its own
            own = experiment_of("market", (9,), 150, n_selectable)
            options["experiment"] = replace(
                own, selector_recipe=replace(own.selector_recipe, epochs=30)
            )
        return distcel.select(
            market / "answers",
            market / "truth.csv",
            run_dir=market / name,
            num_samples=1,
            executor="inline",
            mlflow_uri="none",
            **options,
        )

    return run


@pytest.fixture(scope="module")
def priced(market: Path, select: Callable[..., Run]) -> Run:
    return select("priced", 2, always=["free"], prices=market / "prices.json", budget=2.1)


def test_the_dear_one_is_asked_where_the_free_one_does_not_know(priced: Run) -> None:
    found = priced.results
    asked = dict(zip(found["class_names"], found["asked_by_class"], strict=True))
    names = [predictor["name"] for predictor in found["predictors"]]
    assert names == ["free", "dear", "poor"]
    assert asked["ant"][:2] == [1, pytest.approx(0, abs=0.3)]
    assert asked["bee"][:2] == [1, pytest.approx(1, abs=0.1)]
    assert found["accuracy"]["e2e_cel"] > 0.97
    # At random, as often: a third of the samples that only `dear` knows is not sent to it.
    assert 0.8 < found["accuracy"]["shuffled_selection"] < 0.95
    assert found["valid_price"] <= 2.3
    assert [p["unanswered"]["train"] for p in found["predictors"]] == [0, 0, 1]


def test_the_front_rises_with_the_price(priced: Run) -> None:
    front = priced.results["front"]
    prices = [point["valid_price"] for point in front]
    accuracies = [point["valid_accuracy"] for point in front]
    assert prices == sorted(prices)
    assert accuracies == sorted(accuracies)
    assert {"lambda", "valid_price", "valid_accuracy", "price", "accuracy"} == set(front[0])


def test_a_budget_limits_the_mean_price(market: Path, select: Callable[..., Run]) -> None:
    found = select("cheap", 2, always=["free"], prices=market / "prices.json", budget=1.0).results
    assert found["price"] < 1.3  # on test: the limit is on train and valid
    assert found["accuracy"]["e2e_cel"] > 0.6
    weight = found["price_weight"]
    assert weight["low"] < weight["high"]
    assert 0 < weight["share_of_low"] < 1


def test_the_same_call_trains_nothing_again(
    market: Path, select: Callable[..., Run], priced: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr("distcel.train.selection.TrainingTask.begin", fail)
    again = select("priced", 2, always=["free"], prices=market / "prices.json", budget=2.1)
    assert again.results["accuracy"] == priced.results["accuracy"]


def test_what_is_taken_away_predicts_as_it_was_measured(priced: Run, market: Path) -> None:
    from distcel.data.answers import read_answers

    answers = read_answers(market / "answers", market / "truth.csv", always=["free"])
    test = answers.splits["test"]
    selector = distcel.load_selector(priced.run_dir)
    predicted = selector.predict(test.probs_SNC)
    truth = [answers.splits.class_names[c] for c in test.labels_S]
    accuracy = float(np.mean([p == t for p, t in zip(predicted, truth, strict=True)]))
    assert accuracy == pytest.approx(priced.results["accuracy"]["e2e_cel"])
    assert selector.cost(test.probs_SNC).mean() == pytest.approx(priced.results["price"])
    # What a predictor that is not selected would have said changes nothing.
    mask = selector.selected(test.probs_SNC)
    other = np.where(mask[..., None], test.probs_SNC, np.float32(1 / 3))
    np.testing.assert_array_equal(selector.selected(other), mask)
    np.testing.assert_array_equal(
        selector.predict_proba(other), selector.predict_proba(test.probs_SNC)
    )
    with pytest.raises(InvalidInputError, match="load_selector"):
        distcel.load_ensemble(priced.run_dir)


@pytest.mark.parametrize("method", ["selected", "to_ask", "predict", "cost"])
def test_answers_that_are_no_probabilities_of_all_are_refused(priced: Run, method: str) -> None:
    ask = getattr(distcel.load_selector(priced.run_dir), method)
    wrong = [np.zeros(3), np.zeros((2, 3)), np.zeros((0, 3, 3)), [[1], [1, 2]], "x"]
    for answers in [*wrong, np.full((1, 3, 3), np.nan)]:
        with pytest.raises(InvalidInputError, match="answers"):
            ask(answers)
    with pytest.raises(InvalidInputError, match="features"):
        ask(np.full((1, 3, 3), 1 / 3), "x")


def test_without_prices_k_are_selected(market: Path, select: Callable[..., Run]) -> None:
    numbers = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
    np.save(market / "numbers.npy", numbers)
    found = select("plain", features=market / "numbers.npy", fixed={"k": 2}).results
    assert found["price"] is None
    assert sum(p["asked"] for p in found["predictors"]) == pytest.approx(2)
    poor = found["predictors"][2]
    assert (poor["name"], poor["always"]) == ("poor", False)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"seed": 1.5}, "a whole number 0 <= seed"),
        ({"always": "free"}, "put the name into a list"),
    ],
)
def test_an_argument_of_another_type_is_refused(
    given: dict[str, Any], line: str, select: Callable[..., Run]
) -> None:
    with pytest.raises(InvalidInputError, match=line):
        select("refused", **{"always": ["free"], **given})


def test_a_budget_below_those_that_are_always_asked_is_refused(
    market: Path, select: Callable[..., Run]
) -> None:
    with pytest.raises(InvalidInputError, match="budget >= 3"):
        select("refused", always=["dear"], prices=market / "prices.json", budget=2)


def test_the_digits_own_predictions_give_the_same_accuracies(tmp_path: Path) -> None:
    run = distcel.fit(
        "digits", preset="smoke", run_dir=tmp_path / "run", executor="inline", mlflow_uri="none"
    )
    truth = _given_away(run.run_dir, tmp_path)
    experiment = distcel.load_experiment("digits", "smoke")
    selected = distcel.select(
        tmp_path / "answers",
        truth,
        features=tmp_path / "images.npy",
        experiment=replace(experiment, dataset="given"),
        run_dir=tmp_path / "selected",
        executor="inline",
        mlflow_uri="none",
    )
    own, given = run.results, selected.results
    given["accuracy"].pop("shuffled_selection")  # which base learners have not
    assert given["accuracy"] == own["accuracy"]
    assert given["best"] == own["best"]


def _given_away(run_dir: Path, folder: Path) -> Path:
    """Write a run's cached predictions as a user would have them, with a column a class."""
    splits, facts = ("train", "valid", "test"), json.loads((run_dir / "run.json").read_text())
    class_names, rows, images = facts["class_names"], [], []
    for split in splits:
        (path,) = (run_dir / "data").glob(f"{split}-*.arrow")
        table = read_samples(path, "image")
        images.append(table.values)
        names = [class_names[c] for c in table.labels]
        rows += [[i, n, split] for i, n in zip(table.sample_ids.to_pylist(), names, strict=True)]
    _write(folder / "truth.csv", [["sample_id", "label", "split"], *rows])
    np.save(folder / "images.npy", np.concatenate(images))
    (folder / "answers").mkdir()
    for number, learner in enumerate(facts["learners"]):
        columns: dict[str, Any] = {"sample_id": pa.array([row[0] for row in rows])}
        parts = [
            read_samples(
                next((run_dir / "learners" / s).glob(f"*{learner['key']}.arrow")), "probabilities"
            )
            for s in splits
        ]
        probs = np.concatenate([part.values for part in parts])
        columns |= {name: pa.array(probs[:, c]) for c, name in enumerate(class_names)}
        pyarrow.feather.write_feather(pa.table(columns), folder / "answers" / f"{number:02d}.arrow")
    return folder / "truth.csv"
