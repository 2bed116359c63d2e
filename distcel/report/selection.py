"""The tables of a selection among predictors that were not trained here."""

from __future__ import annotations

import pandas as pd

from distcel.report.frame import Results

_N_POINTS = 12  # of the front in its table; results.json has all


def predictors(results: Results) -> pd.DataFrame:
    """A row a predictor: price, accuracy, how often it is asked, how often it did not answer."""
    rows = {
        found["name"]: [
            _number(found["price"]),
            f"{100 * found['accuracy']:.2f}",
            f"{100 * found['asked']:.1f}",
            str(sum(found["unanswered"].values())),
        ]
        for found in results["predictors"]
    }
    names = ["price", "accuracy", "asked in %", "not answered"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names)


def front(results: Results) -> pd.DataFrame:
    """Accuracy over price: a row a point of valid's front, at most twelve of them."""
    points = results["front"]
    places = sorted({round(i * (len(points) - 1) / (_N_POINTS - 1)) for i in range(_N_POINTS)})
    rows = {
        f"{points[i]['lambda']:.3g}": [
            _number(points[i]["valid_price"]),
            f"{100 * points[i]['valid_accuracy']:.2f}",
            _number(points[i]["price"]),
            f"{100 * points[i]['accuracy']:.2f}",
        ]
        for i in places
    }
    names = ["price on valid", "accuracy on valid", "price on test", "accuracy on test"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("lambda")


def asked_by_class(results: Results) -> pd.DataFrame:
    """A row a class: the share of its test samples that each predictor is asked for, in %."""
    names = [found["name"] for found in results["predictors"]]
    rows = {
        name: [f"{100 * share:.1f}" for share in shares]
        for name, shares in zip(results["class_names"], results["asked_by_class"], strict=True)
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    if results["price_by_class"]:
        table["mean price"] = [_number(price) for price in results["price_by_class"]]
    return table.rename_axis("class")


def spent(results: Results) -> str:
    """Sentences about the null model, and the price of a sample with what limited it, if any."""
    shuffled = (
        "Shuffled is the vote of those that e2e-CEL asked for another sample: it asks as often, at "
        "random. "
    )
    if results["price"] is None:
        return shuffled
    budget = results["budget"]
    limit = "no limit" if budget is None else f"a limit of {_number(budget)}"
    return (
        f"Mean price of a sample on test {_number(results['price'])}, on valid "
        f"{_number(results['valid_price'])}, with {limit} on train and valid. {shuffled}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
