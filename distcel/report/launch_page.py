"""What the page of a launch shows: the tables of its report, its search and its selections."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from distcel.experiment.loading import ARRAYS
from distcel.report import charts
from distcel.report.frame import Results
from distcel.report.pareto import cost_points, launch_points
from distcel.report.parts import Chart, Commands, Gallery, Part, Table, launch_parts
from distcel.report.search_charts import search_figures
from distcel.report.selection import front
from distcel.report.sentences import percent
from distcel.report.tables import cost_against_accuracy, figure_2
from distcel.search.options import OWN_PRESET

_RIVALS = {
    "unweighted_average": "UA, unweighted average",
    "plurality_vote": "PV, plurality vote",
}
_CONFIGURATION = (
    *("dataset", "preset", "seed", "selector_split", "fixed", "precision", "n_learners"),
    *("n_classes", "n_samples", "first", "best", "n_trials", "test_readings", "machine", "ended"),
    *("commit", "source_digest"),
)


def parts(results: Results, details: Results, comparison: Results | None) -> list[Part]:
    """All parts of the page in their order; the arguments are those of `launch_page_text`."""
    return [
        *launch_parts(results),
        *_accuracy(results, details, comparison),
        *_search(details),
        *_selection(details, results["calibration"]["temperature"]),
        *_provenance(results, details),
    ]


def _accuracy(results: Results, details: Results, comparison: Results | None) -> list[Chart]:
    """Accuracy over k, and over the cost of an image."""
    found = []
    if results["valid_accuracy_over_k"]:
        rivals = {title: details["rivals_on_valid"][key] for key, title in _RIVALS.items()}
        caption = "Accuracy over k: one selection net at every k, on valid, where k is chosen"
        rows = {str(k): [percent(x)] for k, x in enumerate(results["valid_accuracy_over_k"], 1)}
        rows |= {title: [percent(x)] for title, x in rivals.items()}
        figure = charts.accuracy_over_k(results, rivals)
        found.append(Chart(caption, figure, "line chart", _frame(rows, ["accuracy"], "k")))
    if "predictors" in results:  # what they compute is not known, but perhaps what they cost
        return [*found, *_over_price(results)]
    if comparison is not None:
        compared = {"seeds": [{"launch": results, "comparison": comparison}]}
        points, numbers = cost_points(compared), cost_against_accuracy(compared)
        figure = charts.figure_2(compared)
        found.append(
            Chart("Figure 2, accuracy over k on test", figure, "line chart", figure_2(compared))
        )
    else:
        points = launch_points(results)
        rows = {
            p.title: [f"{p.k:.4g}", f"{p.multiply_adds / 1e6:.3f}", percent(p.accuracy)]
            for p in points
        }
        numbers = _frame(rows, ["learners used", "million multiply-adds", "accuracy"], "rule")
    caption = "Accuracy over cost: on test, against the multiply-adds of an image"
    found.append(Chart(caption, charts.accuracy_over_cost(points), "scatter plot", numbers))
    return found


def _over_price(results: Results) -> list[Chart]:
    if results["front"] is None:
        return []
    caption = "Accuracy over price: one selection net at every weight of price"
    return [Chart(caption, charts.accuracy_over_price(results), "line chart", front(results))]


def _search(details: Results) -> list[Chart]:
    """Optuna's figures; nothing where no trial is recorded."""
    trials = details["trials"]
    figures = search_figures(trials, details["space"])
    rows = {
        str(trial["number"]): [
            trial["state"],
            *(f"{x:.3g}" if isinstance(x, float) else str(x) for x in trial["params"].values()),
            str(len(trial["valid_accuracies"])),
            percent(trial["valid_accuracies"][-1]) if trial["valid_accuracies"] else "-",
        ]
        for trial in trials
    }
    columns = ["state", *trials[0]["params"], "epochs", "valid accuracy"]
    captions = {
        "history": "Search history: accuracy on valid of each trial after its last epoch",
        "parallel": "Parallel coordinates: the hyperparameters of the complete trials",
        "importance": "Parameter importance: by fANOVA, the share of the variance on valid",
    }
    return [
        Chart(
            captions[name],
            figure,
            "figure by Optuna",
            _frame(rows, columns, "trial") if name == "history" else None,
        )
        for name, figure in figures.items()
    ]


def _selection(details: Results, temperature: float) -> list[Part]:
    """Which learners are selected, what is confused, how sure the ensemble is, on test."""
    names, learners = details["class_names"], details["learners"]
    asked = {
        name: [f"{100 * share:.0f}" for share in row]
        for name, row in zip(names, details["asked_by_class"], strict=True)
    }
    confused = {
        name: [str(n) for n in row] for name, row in zip(names, details["confusion"], strict=True)
    }
    bins = {
        f"{when} {i}": [str(b["n"]), percent(b["confidence"]), percent(b["accuracy"])]
        for when, found in details["reliability"].items()
        for i, b in enumerate(found, 1)
    }
    selected = (
        "Learners by class: for which share of each class's test samples they are selected, %"
    )
    counts = "Confusion matrix: test samples by true and predicted class"
    sure = (
        "Reliability diagram: accuracy over confidence on test, in 15 bins, before and after the "
        f"temperature that was fitted on valid, {temperature:.3g}"
    )
    asked_frame, count_frame = _frame(asked, learners, "class"), _frame(confused, names, "true")
    bin_frame = _frame(bins, ["samples", "confidence", "accuracy"], "bin")
    return [
        Chart(selected, charts.asked_by_class(details), "heat map", asked_frame),
        Chart(counts, charts.confusion(details), "heat map", count_frame),
        Chart(sure, charts.reliability(details), "line chart", bin_frame),
        *_gallery(details),
    ]


def _gallery(details: Results) -> list[Gallery]:
    names, learners = details["class_names"], details["learners"]
    samples = [
        {
            **found,
            "label": names[found["label"]],
            "predicted": names[found["predicted"]],
            "voters": [
                f"{learners[v['learner']]}: {names[v['predicted']]} {percent(v['probability'])}"
                for v in found["voters"]
            ],
        }
        for found in details["least_certain"]
    ]
    caption = (
        "Least certain selections: the test samples whose last selected and first left out learner "
        "have the nearest scores, and who voted"
    )
    return [Gallery(caption, samples)] if samples else []


def _provenance(results: Results, details: Results) -> list[Part]:
    seconds = results["seconds"]
    rows = {name.replace("_", " "): [f"{value:.1f}"] for name, value in seconds.items()}
    time = "Time by stage: of the trainings, each on its own worker"
    chosen = {name.replace("_", " "): [_shown(results[name])] for name in _CONFIGURATION}
    chosen |= {f"space of {name}": [_ends(text)] for name, text in details["space"].items()}
    versions = {name: [version] for name, version in results["versions"].items()}
    again = "To get it again"
    if results["dataset"] != "digits":
        again += ": DATA is the folder of the data set"
    return [
        Chart(time, charts.seconds_by_stage(seconds), "bar chart", _frame(rows, ["s"], "stage")),
        Table("Configuration", _frame(chosen, ["value"], "what")),
        Table("Versions", _frame(versions, ["version"], "package")),
        Commands(again, commands(results, details)),
    ]


def commands(results: Results, details: Results) -> list[str]:
    """The commands that repeat a launch; DATA stands for the folder of the data set."""
    commit = results["commit"]
    clean, _, changed = (commit or "").partition(", ")
    noted = "  # with changes that were not committed" if changed else ""
    lines = [f"git checkout {clean}{noted}"] if clean else []
    if results["preset"] == OWN_PRESET:
        return [*lines, f"distcel.fit(experiment, seed={results['seed']})  # in Python"]
    if results["dataset"] == ARRAYS:
        own = f"preset={results['preset']!r}, seed={results['seed']}"
        return [*lines, f"distcel.fit(X=X, y=y, {own})  # in Python"]
    if "predictors" in results:
        return [*lines, _select_command(results, details)]
    words = ["distcel", "search", "--dataset", results["dataset"], "--preset", results["preset"]]
    if results["dataset"] != "digits":
        words += ["--data-dir", "DATA"]
    words += ["--seed", str(results["seed"]), "--num-samples", str(details["num_samples"])]
    if results["selector_split"] != "train":
        words += ["--selector-split", results["selector_split"]]
    if details["imagenet_weights"] != "published":
        words += ["--imagenet-weights", details["imagenet_weights"]]
    for name, value in results["fixed"].items():
        words += ["--fix", f"{name}={value}"]
    return [*lines, shlex.join(words)]


def _select_command(results: Results, details: Results) -> str:
    """The command of a selection; DIR and the other words in capitals stand for the user's."""
    words = ["distcel", "select", "--predictions", "DIR", "--truth", "TRUTH"]
    words += ["--features", "FEATURES"] if results["sees_features"] else []
    for found in results["predictors"]:
        words += ["--always", found["name"]] if found["always"] else []
    words += ["--prices", "PRICES"] if results["price"] is not None else []
    words += ["--budget", f"{results['budget']:g}"] if results["budget"] is not None else []
    words += ["--seed", str(results["seed"]), "--num-samples", str(details["num_samples"])]
    for name, value in results["fixed"].items():
        words += ["--fix", f"{name}={value}"]
    return shlex.join(words)


def _frame(rows: Mapping[str, Sequence[str]], columns: Sequence[str], index: str) -> pd.DataFrame:
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    return frame.rename_axis(index)


def _ends(distribution: str) -> str:
    """The ends or the choices of a distribution, which Optuna's JSON describes."""
    found = json.loads(distribution)["attributes"]
    if "choices" in found:
        return ", ".join(map(str, found["choices"]))
    scale = ", on a logarithmic scale" if found["log"] else ""
    return f"{found['low']} to {found['high']}{scale}"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        values = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in value.values())
        return ", ".join(f"{name} {x}" for name, x in zip(value, values, strict=True)) or "none"
    return "unknown" if value is None else str(value)
