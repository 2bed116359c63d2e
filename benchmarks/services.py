"""Predictors with prices: `distcel select` beside a table of cells and stacking of all.

    python -m benchmarks.services ferplus --data-dir DIR --always github-cnn --budgets 1 2 5 10 15

DIR/NAME has a CSV a service (sample_id, label, confidence), truth.csv and prices.json, as they were
published with FrugalML (Chen, Zaharia, Zou, NeurIPS 2020). Five splits:
`default_rng(s).permutation` for s in 1, 5, 10, 50 and 100; the first half is train and valid (its
first fifth), the second test.

The table of 35 cells is what FrugalML's own strategy can reach at most: the always-asked service's
label and the fifth of its confidence choose a subset, whose logistic stacking pays best at some
weight of price, by five folds of train and valid. Runs are kept in --run-dir: the same command
continues.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import distcel
from benchmarks.measure import conditions, table
from distcel.core.priced_ensemble import answer_features
from distcel.data.answers import Answers, read_answers
from distcel.data.splits import Split, joined
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
    flags.add_argument("--num-samples", type=int, default=1, help="trials of each run (1)")
    flags.add_argument("--run-dir", type=Path, default=Path("runs/services"))
    arguments = flags.parse_args()
    budgets = [*arguments.budgets, None]
    found = [_of_split(arguments, seed, budgets) for seed in SEEDS]
    names = list(found[0])
    rows = []
    for i, budget in enumerate(budgets):
        cells = {name: 100 * np.array([split[name][i] for split in found]) for name in names}
        shown = [f"{of[:, 0].mean():.2f} at {of[:, 1].mean() / 100:.3g}" for of in cells.values()]
        lead = cells["distcel"][:, 0] - cells[names[1]][:, 0]
        leads = f"{lead.mean():+.2f} ({', '.join(f'{x:+.2f}' for x in lead)})"
        rows.append(["none" if budget is None else f"{budget:g}", *shown, leads])
    print(f"{arguments.name}, {conditions()}\n")
    print(table(["budget", *names, "lead over the table, by split"], rows))


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
    runs = [
        distcel.select(
            predictions,
            truth,
            **files,
            budget=budget,
            run_dir=out / f"{seed}-{budget}-{arguments.num_samples}",
            num_samples=arguments.num_samples,
            executor="inline",
            mlflow_uri="none",
        ).results
        for budget in budgets
    ]
    own = [(run["accuracy"]["e2e_cel"], run["price"]) for run in runs]
    warnings.filterwarnings("ignore", category=UserWarning)
    return {"distcel": own, **_cells_and_stacking(answers, budgets)}


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
) -> dict[str, list[tuple[float, float]]]:
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
    name = f"table of {len(gain_CU)} cells"
    return {name: [(p[2], p[3]) for p in best], "stacking of all": [stacked] * len(budgets)}


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
    import torch

    probs = to_tensor(np.ascontiguousarray(split.probs_SNC[:, list(subset)]), torch.device("cpu"))
    features: NDArray[np.float32] = answer_features(probs).flatten(1).numpy()
    return features


if __name__ == "__main__":
    main()
