"""Predictors with prices: `distcel select` beside a table of cells and stacking of all.

    python -m benchmarks.services ferplus --data-dir DIR --always github-cnn --budgets 1 2 5 10 15

DIR/NAME has a CSV a service (sample_id, label, confidence), truth.csv and prices.json, as they were
published with FrugalML (Chen, Zaharia, Zou, NeurIPS 2020). Five splits:
`default_rng(s).permutation` for s in 1, 5, 10, 50 and 100; the first half is train and valid (its
first fifth), the second test.

distcel is trained once a split, without a limit, and has for each budget the weight of price that
`--budget` would give it: with one trial nothing else depends on the budget. Shuffled is its null
model: it asks as often, but for each sample whom it would ask for another one.

The table of 35 cells is what FrugalML's own strategy can reach at most: the always-asked service's
label and the fifth of its confidence choose a subset, whose logistic stacking pays best at some
weight of price, by five folds of train and valid. Runs are kept in --run-dir: the same command
continues.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import distcel
from benchmarks.measure import conditions, table
from distcel.core.priced_ensemble import PricedEnsemble, answer_features
from distcel.data.answers import Answers, read_answers
from distcel.data.splits import Split, joined
from distcel.evaluate.selection import shuffled_probs
from distcel.rules.rule import correct
from distcel.train.front import weight_within
from distcel.train.loop import to_tensor

SEEDS = (1, 5, 10, 50, 100)
_N_CELLS = 5  # of confidence, for each label


def main() -> None:
    """Print the table of all budgets, means over the splits."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("name")
    flags.add_argument("--data-dir", type=Path, required=True)
    flags.add_argument("--always", required=True)
    flags.add_argument("--budgets", type=float, nargs="+", required=True)
    flags.add_argument("--run-dir", type=Path, default=Path("runs/services"))
    arguments = flags.parse_args()
    budgets = [*arguments.budgets, None]
    found = [_of_split(arguments, seed, budgets) for seed in SEEDS]
    names = list(found[0])
    rows = []
    for i, budget in enumerate(budgets):
        cells = {name: 100 * np.array([split[name][i] for split in found]) for name in names}
        shown = [f"{of[:, 0].mean():.2f} at {of[:, 1].mean() / 100:.3g}" for of in cells.values()]
        leads = [_lead(cells["distcel"][:, 0] - cells[name][:, 0]) for name in names[1:3]]
        rows.append(["none" if budget is None else f"{budget:g}", *shown, *leads])
    print(f"{arguments.name}, {conditions()}\n")
    print(table(["budget", *names, "lead over shuffled", "lead over the table"], rows))


def _lead(points: NDArray[np.float64]) -> str:
    return f"{points.mean():+.2f} ({', '.join(f'{x:+.2f}' for x in points)})"


def _of_split(
    arguments: argparse.Namespace, seed: int, budgets: list[float | None]
) -> dict[str, list[tuple[float, float]]]:
    """Accuracy and mean price on test of each way, at each budget."""
    folder, out = arguments.data_dir / arguments.name, arguments.run_dir / arguments.name
    out.mkdir(parents=True, exist_ok=True)
    truth = _write_truth(folder / "truth.csv", seed, out / f"truth-{seed}.csv")
    files = {"always": [arguments.always], "prices": folder / "prices.json"}
    predictions = _links(folder, out / arguments.name)
    answers = read_answers(predictions, truth, **files)
    run = distcel.select(
        predictions,
        truth,
        **files,
        run_dir=out / str(seed),
        num_samples=1,
        executor="inline",
        mlflow_uri="none",
    )
    selector = distcel.load_selector(run.run_dir)
    own = [_at_budget(selector, answers, budget) for budget in budgets]
    warnings.filterwarnings("ignore", category=UserWarning)
    cells, stacked = _cells_and_stacking(answers, budgets)
    return {
        "distcel": [(accuracy, price) for accuracy, _, price in own],
        "shuffled": [(shuffled, price) for _, shuffled, price in own],
        f"table of {_N_CELLS * len(selector.class_names)} cells": cells,
        "stacking of all": stacked,
    }


def _at_budget(
    selector: distcel.Selector, answers: Answers, budget: float | None
) -> tuple[float, float, float]:
    """Accuracy, that of the shuffled selection, and mean price on test."""
    ensemble, test = selector.smart, answers.splits["test"]
    assert isinstance(ensemble, PricedEnsemble), "the services have prices"
    ensemble.prices = replace(ensemble.prices, budget=budget)
    chosen_on = joined(answers.splits["train"], answers.splits["valid"])
    cpu = torch.device("cpu")
    seen = to_tensor(chosen_on.images_SCHW, cpu), to_tensor(chosen_on.probs_SNC, cpu)
    ensemble.price_weight = weight_within(ensemble, *seen)
    asked_SN = selector.selected(test.probs_SNC)
    own_S = selector.predict_proba(test.probs_SNC).argmax(-1) == test.labels_S
    shuffled_DS = correct(shuffled_probs(ensemble, test, asked_SN, seed=0), test.labels_S)
    return (
        float(own_S.mean()),
        float(shuffled_DS.mean()),
        float(selector.cost(test.probs_SNC).mean()),
    )


def _write_truth(source: Path, seed: int, target: Path) -> Path:
    with source.open() as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(seed).permutation(len(rows))
    half = len(rows) // 2
    split_of = np.full(len(rows), "test ")
    split_of[order[:half]] = "train"
    split_of[order[: half // 5]] = "valid"
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "label", "split"])
        writer.writerows(
            [row["sample_id"], row["label"], split.strip()]
            for row, split in zip(rows, split_of, strict=True)
        )
    return target


def _links(folder: Path, target: Path) -> Path:
    """A folder with the services' files alone."""
    target.mkdir(exist_ok=True)
    for path in folder.glob("*.csv"):
        if path.name != "truth.csv" and not (target / path.name).exists():
            (target / path.name).symlink_to(path.resolve())
    return target


def _cells_and_stacking(
    answers: Answers, budgets: list[float | None]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    train = joined(answers.splits["train"], answers.splits["valid"])
    test = answers.splits["test"]
    assert answers.prices_N is not None, "the services have prices"
    prices_N, others = np.array(answers.prices_N), range(1, len(answers.names))
    subsets = [(0, *rest) for r in range(len(others) + 1) for rest in combinations(others, r)]
    cost_U = np.array([prices_N[list(subset)].sum() for subset in subsets])
    hits = [_stacking(train, test, subset) for subset in subsets]
    in_folds_SU, on_test_SU = (np.stack(part, 1) for part in zip(*hits, strict=True))
    edges = np.quantile(train.probs_SNC[:, 0].max(1), np.linspace(0, 1, _N_CELLS + 1)[1:-1])
    cells, test_cells = _cell(train, edges), _cell(test, edges)
    gain_CU = np.zeros((test.probs_SNC.shape[2] * _N_CELLS, len(subsets)))
    np.add.at(gain_CU, cells, in_folds_SU)
    size_C1 = np.bincount(cells, minlength=len(gain_CU))[:, None]
    points = []
    for weight in [0.0, *np.geomspace(1e-5, 1, 600)]:
        chosen_C = (gain_CU - weight * cost_U * size_C1).argmax(1)
        price, reached = (
            cost_U[chosen_C[cells]].mean(),
            gain_CU[range(len(gain_CU)), chosen_C].sum(),
        )
        on_test = on_test_SU[range(len(test_cells)), chosen_C[test_cells]].mean()
        points.append((price, reached, on_test, cost_U[chosen_C[test_cells]].mean()))
    best = [
        max((p for p in points if budget is None or p[0] <= budget), key=lambda p: p[1])
        for budget in budgets
    ]
    stacked = (float(on_test_SU[:, -1].mean()), float(cost_U[-1]))
    return [(p[2], p[3]) for p in best], [stacked] * len(budgets)


def _cell(split: Split, edges: NDArray[np.float32]) -> NDArray[np.int64]:
    probs_SC = split.probs_SNC[:, 0]
    fifth_S = np.searchsorted(edges, probs_SC.max(1), side="right")
    cell_S: NDArray[np.int64] = probs_SC.argmax(1) * _N_CELLS + fifth_S
    return cell_S


def _stacking(train: Split, test: Split, subset: tuple[int, ...]) -> tuple[Any, Any]:
    """Whether logistic stacking of the subset is right: in five folds of train, and on test."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    inputs = [_inputs(split, subset) for split in (train, test)]
    model = LogisticRegression(C=1.0, max_iter=500)
    in_folds = cross_val_predict(model, inputs[0], train.labels_S, cv=5) == train.labels_S
    model.fit(inputs[0], train.labels_S)
    return in_folds, model.predict(inputs[1]) == test.labels_S


def _inputs(split: Split, subset: tuple[int, ...]) -> NDArray[np.float32]:
    probs = to_tensor(np.ascontiguousarray(split.probs_SNC[:, list(subset)]), torch.device("cpu"))
    features: NDArray[np.float32] = answer_features(probs).flatten(1).numpy()
    return features


if __name__ == "__main__":
    main()
