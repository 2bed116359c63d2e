"""What the page of a launch shows: the tables of its report, its search and its selections."""

from __future__ import annotations

from distcel.report import charts, provenance
from distcel.report.frame import Results, text_frame
from distcel.report.pareto import cost_points, launch_points
from distcel.report.parts import Chart, Gallery, Part, launch_parts
from distcel.report.search_charts import search_figures
from distcel.report.selection import front
from distcel.report.sentences import percent
from distcel.report.tables import cost_against_accuracy, figure_2

_RIVALS = {
    "unweighted_average": "UA, unweighted average",
    "plurality_vote": "PV, plurality vote",
}


def parts(results: Results, details: Results, comparison: Results | None) -> list[Part]:
    """All parts of the page in their order; the arguments are those of `launch_page_text`."""
    return [
        *launch_parts(results),
        *_accuracy(results, details, comparison),
        *_search(details),
        *_selection(details, results["calibration"]["temperature"]),
        *provenance.of_launch(results, details),
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
        found.append(Chart(caption, figure, "line chart", text_frame(rows, ["accuracy"], "k")))
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
        numbers = text_frame(rows, ["learners used", "million multiply-adds", "accuracy"], "rule")
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
    numbers = {"history": text_frame(rows, columns, "trial")}
    if "importance" in figures:
        (bars,) = figures["importance"].data
        shares = {name: [f"{x:.3f}"] for name, x in zip(bars.y[::-1], bars.x[::-1], strict=True)}
        numbers["importance"] = text_frame(shares, ["importance"], "hyperparameter")
    return [
        Chart(captions[name], figure, "figure by Optuna", numbers.get(name))
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
    asked_frame, count_frame = (
        text_frame(asked, learners, "class"),
        text_frame(confused, names, "true"),
    )
    bin_frame = text_frame(bins, ["samples", "confidence", "accuracy"], "bin")
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
