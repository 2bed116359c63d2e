"""The tables as frames of texts: accuracies in percent, mean and deviation over the seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from distcel.report.frame import (
    Results,
    accuracies,
    by_rule,
    comparisons,
    curve_keys,
    launches,
    mean,
    mean_and_deviation,
    over_k,
    rule_titles,
    seed_titles,
    show,
)
from distcel.report.leads import leaders
from distcel.report.pareto import cost_points, front_of_all

_LEARNERS = ("specialised", "complementary", "overall")
_PARAMS = ("k", "epsilon", "m", "lr", "gradient", "vote")


def table_1(seeds: Sequence[Results]) -> pd.DataFrame:
    """Table 1, the base learners, from the `results.json` of one launch or of each seed."""
    columns = {name: name for name in _LEARNERS}
    return _beside_paper(columns, seeds, lambda measured, name: measured[name])


def table_2(seeds: Sequence[Results]) -> pd.DataFrame:
    """Table 2, the paper's rules, of one launch with the oracle or over the seeds without it."""
    rules, alone = seeds[0]["rules"], len(seeds) == 1
    columns = {key: rule["title"] for key, rule in rules.items() if alone or key != "oracle"}
    return _beside_paper(columns, seeds, lambda measured, key: measured["accuracy"][key])


def _beside_paper(columns: Mapping[str, str], seeds: Sequence[Results], value: Any) -> pd.DataFrame:
    """Rows for distcel, for PrivateTest alone if all have it, for the paper and the difference."""
    measured = {"distcel": seeds}
    private = [launch["private_test"] for launch in seeds]
    if all(private):
        measured[f"distcel, PrivateTest alone ({private[0]['n_samples']})"] = private
    rows = {
        name: [mean_and_deviation(value(one, key) for one in found) for key in columns]
        for name, found in measured.items()
    }
    paper = seeds[0]["paper"]
    if paper:
        published = [paper.get(key) for key in columns]
        ours = [statistics.mean(value(one, key) for one in seeds) for key in columns]
        rows["paper"] = [mean([x]) for x in published]
        rows["difference"] = [
            "-" if x is None else f"{100 * (our - x):+.2f}"
            for our, x in zip(ours, published, strict=True)
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns.values()))


def table_3(points: Mapping[str, tuple[Mapping[str, Any], float]], launch: Results) -> pd.DataFrame:
    """Table 3, the best sub-ensembles: a row for each title.

    Args:
        points: hyperparameters and accuracy on valid, by title; m is left out of `exact`, which
            draws nothing.
        launch: the `results.json` of a launch.
    """
    n_learners, paper = str(launch["n_learners"]), launch["paper"]
    rows = {}
    for title, (params, valid) in points.items():
        named = dict(params) | ({"m": "-"} if params["gradient"] == "exact" else {})
        texts = [f"{x:.3g}" if isinstance(x, float) else str(x) for x in map(named.get, _PARAMS)]
        rows[title] = [n_learners, *texts, mean([valid])]
    if paper:
        rows["paper"] = [n_learners, str(paper["k"]), "-", "-", "-", "-", "sum", "-"]
    columns = ["n", *_PARAMS, "valid accuracy"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def best_points(results: Results) -> pd.DataFrame:
    """Table 3 of a reproduction: what each seed's search, and that of the learned vote, chose."""
    points = {}
    for title, launch, comparison in zip(
        seed_titles(results), launches(results), comparisons(results), strict=True
    ):
        points[title] = launch["best"], launch["valid_accuracy"]
        for rule in comparison["rules"].values():
            if "trial" in rule:
                trial = rule["trial"]
                valid = trial["epochs"][-1]["valid_accuracy"]
                points[f"{title}, {rule['title']}"] = trial["params"], valid
    return table_3(points, launches(results)[0])


def every_rule(results: Results) -> pd.DataFrame:
    """Table 4: the split that each rule is fitted on, its accuracy, calibration error and leads."""
    rules = comparisons(results)[0]["rules"]
    splits = {"nothing": "-"}
    if launches(results)[0]["selector_split"] == "holdout":
        splits["train"] = "held-out fifth"
    titles = rule_titles(results)
    fitted = [rules[key]["fitted_on"] for key in titles]
    errors = by_rule(results, lambda found, key: found["rules"][key].get("calibration_error"))
    columns = {
        "fitted on": [splits.get(split, split) for split in fitted],
        "accuracy": show(accuracies(results)),
        "calibration error": show(errors),
    }
    for leader, title in leaders(results).items():
        columns[f"{title} minus it"] = _mean_leads(results, leader)
    return _titled(columns, results)


def _mean_leads(results: Results, leader: str) -> list[str]:
    leads = by_rule(results, lambda found, key: found["against"][leader].get(key, {}).get("mean"))
    return show(leads, lambda row: mean_and_deviation(row, sign="+"))


def _titled(columns: Mapping[str, Sequence[str]], results: Results) -> pd.DataFrame:
    index = pd.Index(list(rule_titles(results).values()), name="rule")
    return pd.DataFrame(columns, index=index)


def chosen_on_valid(results: Results) -> pd.DataFrame:
    """Table 6: the setting that each rule without a search chose on valid; empty if none did."""
    rules = [comparison["rules"] for comparison in comparisons(results)]
    rows: dict[str, list[str]] = {}
    for key, rule in rules[0].items():
        if "chosen" in rule:
            values = [f"{seed_rules[key]['chosen']['value']:g}" for seed_rules in rules]
            rows[rule["title"]] = [rule["chosen"]["what"].replace("_", " "), *values]
    trained = {
        key: rule["title"]
        for seed_rules in rules
        for key, rule in seed_rules.items()
        if "training" in rule and "trial" not in rule
    }
    for key, title in trained.items():
        cells = [_lr_and_accuracy(seed_rules.get(key)) for seed_rules in rules]
        rows[title] = ["learning rate (accuracy on valid)", *cells]
    columns = ["what", *seed_titles(results)]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return frame.rename_axis("rule")


def _lr_and_accuracy(rule: Mapping[str, Any] | None) -> str:
    if rule is None:
        return "-"
    training = rule["training"]
    text = f"{training['lr']:.3g} ({mean([training['valid_accuracy']])})"
    return f"{text}, k {training['k']}" if "k" in training else text


def accuracy_by_group(results: Results, groups: str) -> pd.DataFrame:
    """Tables 7 and 9: each rule's accuracy on each `class` or `slice`; empty without any."""
    sizes = comparisons(results)[0][f"{groups}_sizes"]  # every seed has the same test split
    columns = {"samples": [str(size) for size in sizes.values()]}
    for key, title in rule_titles(results).items():
        found = [
            comparison["rules"][key][f"{groups}_accuracy"] for comparison in comparisons(results)
        ]
        columns[title] = [mean(by_name.get(name) for by_name in found) for name in sizes]
    return pd.DataFrame(columns, index=list(sizes)).T.rename_axis("rule")


def calibration(results: Results) -> pd.DataFrame:
    """Temperature and calibration of e2e-CEL at each k of Figure 2; empty where not measured."""
    by_seed = [
        {point["k"]: point["calibration"] for point in found["over_k"] if "calibration" in point}
        for found in comparisons(results)
    ]
    rows = {}
    for k in sorted(set.intersection(*map(set, by_seed))):
        found = [points[k] for points in by_seed]
        rows[str(k)] = [
            mean_and_deviation([one["temperature"] for one in found], scale=1.0),
            *(
                mean_and_deviation([one[when][what] for one in found], scale)
                for what, scale in (("calibration_error", 100), ("negative_log_likelihood", 1))
                for when in ("before", "after")
            ),
        ]
    columns = ["temperature", "error before", "error after", "NLL before", "NLL after"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("k")


def figure_2(results: Results) -> pd.DataFrame:
    """Figure 2's numbers: a row for each k, a column for each rule."""
    titles = rule_titles(results)
    columns = {}
    for key in curve_keys(results):
        found = over_k(results, key)
        columns[titles[key]] = pd.Series(show(found), index=found.index)
    return pd.DataFrame(columns).rename_axis("k")


def cost_against_accuracy(results: Results) -> pd.DataFrame:
    """Table 8: cost of an image and accuracy at each k of Figure 2 and of the other rules."""
    points = cost_points(results)
    fronts = front_of_all(points)
    rows = []
    for point, on_front in zip(points, fronts, strict=True):
        front = ("yes, the knee" if point.is_knee else "yes") if point.on_front else "no"
        rows.append(
            {
                "rule": point.title,
                "learners used": f"{point.k:.4g}",
                "million multiply-adds": f"{point.multiply_adds / 1e6:.3f}",
                "accuracy": mean_and_deviation(point.accuracies),
                "front over k": front if point.over_k else "-",
                "front of all rows": "yes" if on_front else "no",
            }
        )
    return pd.DataFrame(rows).set_index("rule")


def leaderboard(launch: Results, comparison: Results | None) -> pd.DataFrame:
    """Accuracy on test of each rule, the best first, from a comparison or else from the launch."""
    if comparison is None:
        titles = {key: rule["title"] for key, rule in launch["rules"].items()}
        rows = {titles.get(key, key): [x] for key, x in launch["accuracy"].items()}
        found = pd.DataFrame.from_dict(rows, orient="index", columns=["accuracy"])
    else:
        names = ["accuracy", "calibration_error"]
        rows = {
            rule["title"]: [rule.get(name) for name in names]
            for rule in comparison["rules"].values()
        }
        found = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return found.sort_values("accuracy", ascending=False).rename_axis("rule")
