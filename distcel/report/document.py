"""The report of a launch and of a reproduction as Markdown, from `results.json` alone."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distcel.report import notes, tables
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
from distcel.report.pareto import SMART, best_k
from distcel.storage.files import write_atomically, write_json


def launch_report(results: Results) -> str:
    """The paper's Tables 1 to 3 of one launch, its numbers beside ours, under a heading."""
    return f"# {launch_title(results)}\n\n{launch_tables(results)}"


def launch_title(results: Results) -> str:
    """What one launch is called."""
    return f"{title(results)}, seed {results['seed']}"


def launch_tables(results: Results) -> str:
    """The launch's report without its heading, for whatever shows that itself."""
    read = _read_before({launch_title(results): results["test_read_after"]})
    left_out = _duplicates([results["n_duplicates"]])
    point = {"distcel": (results["best"], results["valid_accuracy"])}
    return _joined(
        [
            f"Accuracy in % on the {results['n_samples']['test']} samples of the test split. "
            f"{left_out}{read}{results['note']}",
            *_table("Table 1, base learners (mean)", tables.table_1([results])),
            *_table("Table 2, smart ensemble and consensus rules", tables.table_2([results])),
            *_table("Table 3, best sub-ensemble", tables.table_3(point, results)),
        ]
    )


def reproduction_title(results: Results) -> str:
    """What a reproduction is called."""
    return title(launches(results)[0])


def reproduction_report(results: Results) -> str:
    """Everything that a reproduction measured, under a heading, with the notes at its end."""
    parts = [reproduction_body(results), f"## Notes\n\n{notes.of_reproductions([results])}"]
    return f"# {reproduction_title(results)}\n\n{_joined(parts)}"


def reproduction_body(results: Results, figures: str = ".") -> str:
    """The report of a reproduction without heading and notes; `figures` is where they are."""
    return _joined([*_papers_sections(results), *_further_sections(results, figures)])


def reproduction_tables(results: Results) -> str:
    """The paper's tables alone: MLflow refuses a description as long as the whole report."""
    last = "The other tables and the figures are artifacts of this run."
    return _joined([*_papers_sections(results), last])


def reproduction_metrics(results: Results) -> dict[str, float]:
    """The means over the seeds, by name: `accuracy/KEY` and `calibration_error/KEY`."""
    errors = by_rule(results, lambda found, key: found["rules"][key].get("calibration_error"))
    frames = {"accuracy": accuracies(results), "calibration_error": errors.dropna()}
    return {
        f"{name}/{key}": statistics.mean(row)
        for name, frame in frames.items()
        for key, row in frame.iterrows()
    }


def reproduction_curves(results: Results) -> dict[str, dict[int, float]]:
    """Figure 2's means over the seeds, by the rule's key and by k."""
    return {
        key: {int(k): statistics.mean(row) for k, row in over_k(results, key).iterrows()}
        for key in curve_keys(results)
    }


def write_reproduction(folder: Path, results: dict[str, Any]) -> str:
    """Write report.md, results.json and the figures into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = reproduction_report(results)
    write_json(folder / "results.json", results)
    draw_figure_2(results, folder)
    draw_pareto(results, folder)
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    return text


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _table(caption: str, frame: Any) -> list[str]:
    """The caption and the table; nothing for an empty one."""
    return [caption, markdown(frame)] if len(frame.columns) and len(frame) else []


def _papers_sections(results: Results) -> list[str]:
    found = launches(results)
    seeds = [launch["seed"] for launch in found]
    read = _read_before({f"seed {launch['seed']}": launch["test_read_after"] for launch in found})
    left_out = _duplicates([launch["n_duplicates"] for launch in found])
    return [
        f"`{results['command']}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        f"chosen is chosen on the valid split. {_sizes(found)}{left_out}{read}{found[0]['note']}",
        *_table("Table 1, base learners (mean over the learners)", tables.table_1(found)),
        *_table("Table 2, smart ensemble and consensus rules", tables.table_2(found)),
        *_table("Table 3, best sub-ensemble", tables.best_points(results)),
        _searches(found),
    ]


def _further_sections(results: Results, figures: str) -> list[str]:
    leading = tables.leaders(results)
    lead = " and of ".join(leading.values())
    sections = _table(
        f"Table 4, every rule, with the lead over it of {lead}: mean over the seeds",
        tables.every_rule(results),
    )
    sections.append(_diverged(results))
    for part, (key, name) in zip("ab" if len(leading) > 1 else " ", leading.items(), strict=True):
        caption = f"Table 5{part.strip()}, the lead of {name} over each rule, seed by seed"
        sections += _table(caption, tables.leads_by_seed(results, key))
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
    """One number where all seeds have the same: which duplicates are left out is by seed."""
    sizes = [launch["n_samples"] for launch in found]
    counts = {name: dict.fromkeys(str(of_seed[name]) for of_seed in sizes) for name in sizes[0]}
    named = [f"{' or '.join(of_seeds)} {name}" for name, of_seeds in counts.items()]
    return f"Samples: {', '.join(named)}. "


def _duplicates(counts: Sequence[int]) -> str:
    """What was left out of train and valid, if anything, as a sentence; a count for each seed."""
    if not any(counts):
        return ""
    left_out = ", ".join(map(str, counts))
    return f"Left out of train and valid, their image occurring twice or in test: {left_out}. "


def _read_before(read_after: dict[str, Sequence[int]]) -> str:
    """That trials were added when the test split had been read, if any were, as a sentence.

    Args:
        read_after: by the name of a run, how many trials had ended at each reading.
    """
    added = {name: counts[:-1] for name, counts in read_after.items() if counts[:-1]}
    if not added:
        return ""
    looks = "; ".join(f"{name} after {', '.join(map(str, n))}" for name, n in added.items())
    return f"Trials were added when the test split had been read: {looks}. "


def _searches(found: Sequence[Results]) -> str:
    """How many trials the searches had, and where they began."""
    trials = ", ".join(str(launch["n_trials"]) for launch in found)
    point = ", ".join(f"{name} = {value}" for name, value in found[0]["first"].items())
    return f"Trials of each seed's search: {trials}, the first at {point}."


def _diverged(results: Results) -> str:
    """What the tables lack because it diverged in some seed, as a sentence; empty if nothing is."""
    seeds: dict[str, list[str]] = {}
    for launch, comparison in zip(launches(results), comparisons(results), strict=True):
        for name in comparison["diverged"]:
            seeds.setdefault(name, []).append(str(launch["seed"]))
    if not seeds:
        return ""
    names = "; ".join(f"{name} (seed {', '.join(numbers)})" for name, numbers in seeds.items())
    return f"Diverged, and so left out of the tables and Figure 2: {names}."


def _chosen_otherwise(results: Results) -> str:
    """What choosing among Figure 2's k would have given, on valid and on test, in two sentences."""
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
    """What all trainings took, whichever launch they ran in."""
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
    """Where and when the first seed was launched, and of what code all are."""
    first, *_ = found = launches(results)
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = dict.fromkeys(str(launch["commit"] or "unknown") for launch in found)
    return (
        f"Seed {first['seed']} was last launched on {first['machine']} and ended at "
        f"{first['ended']}. {versions}; commit {' and '.join(commits)}."
    )
