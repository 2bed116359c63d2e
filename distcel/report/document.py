"""The report of a launch and of a reproduction as Markdown, from `results.json` alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distcel.report import leads, notes, selection, tables
from distcel.report.claims import SMART, over_seeds
from distcel.report.figures import draw_figure_2, draw_pareto
from distcel.report.frame import (
    Results,
    accuracies,
    by_rule,
    comparisons,
    curve_keys,
    launches,
    markdown,
    mean_and_deviation,
    over_k,
    rule_titles,
    title,
)
from distcel.report.pareto import best_k
from distcel.storage.files import write_atomically, write_json


def launch_report(results: Results) -> str:
    """Tables 1 to 3 of one launch under a heading, with the paper's numbers beside its own."""
    return f"# {launch_title(results)}\n\n{launch_tables(results)}"


def launch_title(results: Results) -> str:
    """The title of one launch."""
    return f"{title(results)}, seed {results['seed']}"


def launch_tables(results: Results) -> str:
    """The launch's report without its heading, for pages that have one of their own."""
    read = _added_after_test({launch_title(results): results["test_read_after"]})
    left_out = _duplicates([results["n_duplicates"]])
    point = {"distcel": (results["best"], results["valid_accuracy"])}
    given = "predictors" in results
    spent = selection.spent(results) if given else ""
    return _joined(
        [
            f"Accuracy in % on the {results['n_samples']['test']} samples of the test split. "
            f"{spent}{left_out}{read}{notes.of_precision([results])}{results['note']}",
            *(
                _selection_tables(results)
                if given
                else _table("Table 1, base learners (mean)", tables.table_1([results]))
            ),
            *_table("Table 2, smart ensemble and consensus rules", tables.table_2([results])),
            *_table("Table 3, best sub-ensemble", tables.table_3(point, results)),
        ]
    )


def _selection_tables(results: Results) -> list[str]:
    parts = _table("Predictors", selection.predictors(results))
    if results["front"]:
        parts += _table("Accuracy over price", selection.front(results))
    caption = "Who is asked, in % of the test samples of a class"
    return [*parts, *_table(caption, selection.asked_by_class(results))]


def reproduction_title(results: Results) -> str:
    """The title of a reproduction."""
    return title(launches(results)[0])


def reproduction_report(results: Results) -> str:
    """Everything that a reproduction measured, under a heading, with the notes at its end."""
    parts = [reproduction_body(results), f"## Notes\n\n{notes.of_reproductions([results])}"]
    return f"# {reproduction_title(results)}\n\n{_joined(parts)}"


def reproduction_body(results: Results, figures: str = ".") -> str:
    """The report of a reproduction without heading and notes; `figures` is the figures' folder."""
    return _joined([*_papers_sections(results), *_further_sections(results, figures)])


def reproduction_tables(results: Results) -> str:
    """The paper's tables alone: MLflow refuses a description of the whole report's length."""
    last = "The other tables and the figures are artifacts of this run."
    return _joined([*_papers_sections(results), last])


def reproduction_metrics(results: Results) -> dict[str, float]:
    """The means over the seeds, named `accuracy/KEY` and `calibration_error/KEY`, as fractions."""
    errors = by_rule(results, lambda found, key: found["rules"][key].get("calibration_error"))
    frames = {"accuracy": accuracies(results), "calibration_error": errors.dropna()}
    return {
        f"{name}/{key}": statistics.mean(row)
        for name, frame in frames.items()
        for key, row in frame.iterrows()
    }


def reproduction_curves(results: Results) -> dict[str, dict[int, float]]:
    """The means over the seeds that Figure 2 shows, by the rule's key and by k, as fractions."""
    return {
        key: {int(k): statistics.mean(row) for k, row in over_k(results, key).iterrows()}
        for key in curve_keys(results)
    }


def write_reproduction(folder: Path, results: dict[str, Any]) -> str:
    """Write report.md, results.json and the figures into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = reproduction_report(results)
    write_json(folder / "results.json", {**results, "over_seeds": over_seeds(results)})
    draw_figure_2(results, folder)
    draw_pareto(results, folder)
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    return text


_SUMMARY = "In short: mean over the seeds, in brackets its 95 % t-interval"


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _table(caption: str, frame: Any) -> list[str]:
    """The caption and the table; nothing for an empty one."""
    return [caption, markdown(frame)] if len(frame.columns) and len(frame) else []


def _papers_sections(results: Results) -> list[str]:
    found = launches(results)
    seeds = [launch["seed"] for launch in found]
    read = _added_after_test(
        {f"seed {launch['seed']}": launch["test_read_after"] for launch in found}
    )
    read += _readings([*found, *comparisons(results)])
    left_out = _duplicates([launch["n_duplicates"] for launch in found])
    return [
        f"`{results['command']}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        f"chosen is chosen on the valid split. {_sizes(found)}{left_out}{read}"
        f"{notes.of_precision(found)}{found[0]['note']}",
        *_table(_SUMMARY, leads.summary(results)),
        *_table("Table 1, base learners (mean over the learners)", tables.table_1(found)),
        *_table("Table 2, smart ensemble and consensus rules", tables.table_2(found)),
        *_table("Table 3, best sub-ensemble", tables.best_points(results)),
        _searches(found),
    ]


def _further_sections(results: Results, figures: str) -> list[str]:
    leading = leads.leaders(results)
    lead = " and of ".join(leading.values())
    sections = _table(
        f"Table 4, every rule, with the lead over it of {lead}: mean over the seeds",
        tables.every_rule(results),
    )
    sections.append(_diverged(results))
    parts = ["a", "b"] if len(leading) > 1 else [""]
    for part, (key, name) in zip(parts, leading.items(), strict=True):
        caption = f"Table 5{part}, the lead of {name} over each rule, seed by seed"
        sections += _table(caption, leads.leads_by_seed(results, key))
    sections += _table(
        "Table 6, what was chosen on valid, seed by seed", tables.chosen_on_valid(results)
    )
    sections += _table(
        "Table 7, accuracy by class (recall), mean over the seeds",
        tables.accuracy_by_group(results, "class"),
    )
    sections += ["Figure 2, accuracy over k", f"![Figure 2]({figures}/figure2.svg)"]
    sections += [markdown(tables.figure_2(results)), _chosen_otherwise(results)]
    sections.append("Table 8, accuracy against the cost of an image, means over the seeds")
    sections.append(f"![Pareto front]({figures}/pareto.svg)")
    sections.append(markdown(tables.cost_against_accuracy(results)))
    sections += _table(
        f"Calibration of {rule_titles(results)[SMART]} at each k: the temperature fitted on valid, "
        "and the calibration error in % and the mean negative log likelihood in nats on "
        "test before and after it",
        tables.calibration(results),
    )
    sections += _table(
        "Table 9, accuracy by gender and by ethnicity, mean over the seeds",
        tables.accuracy_by_group(results, "slice"),
    )
    sections += _table(
        "The knapsack layer's gradients side by side at the best trial's k, epsilon and lr: "
        f"accuracy in % after {tables.gradient_epochs(results)} epochs of each",
        tables.gradients(results),
    )
    return [*sections, _times(results), _provenance(results)]


def _sizes(found: Sequence[Results]) -> str:
    """The splits' sizes, as a sentence; they differ by seed where the duplicates left out do."""
    sizes = [launch["n_samples"] for launch in found]
    counts = {name: dict.fromkeys(str(by_name[name]) for by_name in sizes) for name in sizes[0]}
    named = [f"{' or '.join(different)} {name}" for name, different in counts.items()]
    return f"Samples: {', '.join(named)}. "


def _duplicates(counts: Sequence[int]) -> str:
    """A sentence with each seed's number of duplicates that are left out; empty if none are."""
    if not any(counts):
        return ""
    left_out = ", ".join(map(str, counts))
    return f"Left out of train and valid, their image occurring twice or in test: {left_out}. "


def _added_after_test(read_after: dict[str, Sequence[int]]) -> str:
    """A sentence about trials that were added once the test split had been read; empty if none.

    Args:
        read_after: for each run, by name, how many trials had ended at each reading of the split.
    """
    added = {name: counts[:-1] for name, counts in read_after.items() if counts[:-1]}
    if not added:
        return ""
    readings = "; ".join(f"{name} after {', '.join(map(str, n))}" for name, n in added.items())
    return f"Trials were added when the test split had been read: {readings}. "


def _readings(measured: Sequence[Results]) -> str:
    """A sentence about how often the test split was read; empty where no ledger was kept."""
    counts = [found["test_readings"] for found in measured if "test_readings" in found]
    if not counts:
        return ""
    times = "once" if max(counts) == 1 else f"{max(counts)} times"
    return f"The test split has been read {times} by the runs in this folder, by their ledger. "


def _searches(found: Sequence[Results]) -> str:
    """How many trials the searches had, and their first trial's point, as a sentence."""
    trials = ", ".join(str(launch["n_trials"]) for launch in found)
    point = ", ".join(f"{name} = {value}" for name, value in found[0]["first"].items())
    return f"Trials of each seed's search: {trials}, the first at {point}."


def _diverged(results: Results) -> str:
    """A sentence about the rules left out because they diverged in some seed; empty if none."""
    seeds: dict[str, list[str]] = {}
    for launch, comparison in zip(launches(results), comparisons(results), strict=True):
        for name in comparison["diverged"]:
            seeds.setdefault(name, []).append(str(launch["seed"]))
    if not seeds:
        return ""
    names = "; ".join(f"{name} (seed {', '.join(numbers)})" for name, numbers in seeds.items())
    return f"Diverged, and so left out of the tables and Figure 2: {names}."


def _chosen_otherwise(results: Results) -> str:
    """What choosing k on valid, or on test, would have given; a paragraph."""
    smart = rule_titles(results)[SMART]

    def found(on_test: bool) -> str:
        best = best_k(results, on_test)
        reached = mean_and_deviation(accuracy for _, accuracy in best)
        return f"{', '.join(str(k) for k, _ in best)}, and {smart} {reached}"

    return (
        "Epsilon, m, lr and gradient are those that each seed's search found with its own k, and "
        "the same for all other k. Had k been chosen among these and the searched one, each seed's "
        f"on its valid split, it would have been {found(False)} on test. Had it been chosen on the "
        f"test split, as the authors' code does, it would have been {found(True)}: the highest "
        "point of each curve, not a result."
    )


def _times(results: Results) -> str:
    """The minutes that all trainings took, in whichever launch they ran, as a sentence."""
    total: Counter[str] = Counter()
    for launch, comparison in zip(launches(results), comparisons(results), strict=True):
        total.update(launch["seconds"])
        total.update(comparison["seconds"])
    parts = [f"{what.replace('_', ' ')} {s / 60:.1f}" for what, s in total.items() if s]
    return (
        f"The trainings of all seeds took {total.total() / 60:.1f} minutes of one worker, without "
        f"the epochs that were lost to interruptions or diverged: {', '.join(parts)}."
    )


def _provenance(results: Results) -> str:
    """Where and when the first seed was launched, and the commits of all seeds' code."""
    found = launches(results)
    first = found[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = dict.fromkeys(str(launch["commit"] or "unknown") for launch in found)
    return (
        f"Seed {first['seed']} was last launched on {first['machine']} and ended at "
        f"{first['ended']}. {versions}; commit {' and '.join(commits)}."
    )
