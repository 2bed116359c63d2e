"""The parts of a report in their order: sentences, tables and figures, in no layout yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from distcel.report import leads, notes, tables
from distcel.report.claims import SMART
from distcel.report.frame import (
    Results,
    comparisons,
    launches,
    mean_and_deviation,
    rule_titles,
    title,
)
from distcel.report.pareto import best_k


@dataclass(frozen=True)
class Table:
    """A frame of texts with its caption; without one it belongs to what is before it."""

    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Figure:
    """A figure of a reproduction.

    Attributes:
        caption: its caption.
        name: of its files, without the suffix.
        alt: what it is, in two words.
    """

    caption: str
    name: str
    alt: str


Part = str | Table | Figure


def launch_title(results: Results) -> str:
    """The title of one launch."""
    return f"{title(results)}, seed {results['seed']}"


def reproduction_title(results: Results) -> str:
    """The title of a reproduction."""
    return title(launches(results)[0])


def launch_parts(results: Results) -> list[Part]:
    """Tables 1 to 3 of one launch, with the paper's numbers beside its own."""
    read = _added_after_test({launch_title(results): results["test_read_after"]})
    left_out = _duplicates([results["n_duplicates"]])
    point = {"distcel": (results["best"], results["valid_accuracy"])}
    return _present(
        [
            f"Accuracy in % on the {results['n_samples']['test']} samples of the test split. "
            f"{left_out}{read}{notes.of_precision([results])}{results['note']}",
            Table("Table 1, base learners (mean)", tables.table_1([results])),
            Table("Table 2, smart ensemble and consensus rules", tables.table_2([results])),
            Table("Table 3, best sub-ensemble", tables.table_3(point, results)),
        ]
    )


_SUMMARY = "In short: mean over the seeds, in brackets its 95 % t-interval"


def papers_parts(results: Results) -> list[Part]:
    """The paper's tables over the seeds, and the summary."""
    found = launches(results)
    seeds = [launch["seed"] for launch in found]
    read = _added_after_test(
        {f"seed {launch['seed']}": launch["test_read_after"] for launch in found}
    )
    read += _readings([*found, *comparisons(results)])
    left_out = _duplicates([launch["n_duplicates"] for launch in found])
    return _present(
        [
            f"`{results['command']}`",
            "Accuracy in % on the test split, mean ± standard deviation over seeds "
            f"{seeds}. What is chosen is chosen on the valid split. {_sizes(found)}{left_out}"
            f"{read}{notes.of_precision(found)}{found[0]['note']}",
            Table(_SUMMARY, leads.summary(results)),
            Table("Table 1, base learners (mean over the learners)", tables.table_1(found)),
            Table("Table 2, smart ensemble and consensus rules", tables.table_2(found)),
            Table("Table 3, best sub-ensemble", tables.best_points(results)),
            _searches(found),
        ]
    )


def further_parts(results: Results) -> list[Part]:
    """Every rule over the seeds, the figures, calibration, gradients, times and provenance."""
    leading = leads.leaders(results)
    lead = " and of ".join(leading.values())
    by_seed = [
        Table(
            f"Table 5{part}, the lead of {name} over each rule, seed by seed",
            leads.leads_by_seed(results, key),
        )
        for part, (key, name) in zip(
            "ab" if len(leading) > 1 else [""], leading.items(), strict=True
        )
    ]
    return _present(
        [
            Table(
                f"Table 4, every rule, with the lead over it of {lead}: mean over the seeds",
                tables.every_rule(results),
            ),
            _diverged(results),
            *by_seed,
            Table(
                "Table 6, what was chosen on valid, seed by seed", tables.chosen_on_valid(results)
            ),
            Table(
                "Table 7, accuracy by class (recall), mean over the seeds",
                tables.accuracy_by_group(results, "class"),
            ),
            Figure("Figure 2, accuracy over k", "figure2", "Figure 2"),
            Table("", tables.figure_2(results)),
            _chosen_otherwise(results),
            Figure(
                "Table 8, accuracy against the cost of an image, means over the seeds",
                "pareto",
                "Pareto front",
            ),
            Table("", tables.cost_against_accuracy(results)),
            Table(
                f"Calibration of {rule_titles(results)[SMART]} at each k: the temperature fitted "
                "on valid, and the calibration error in % and the mean negative log likelihood in "
                "nats on test before and after it",
                tables.calibration(results),
            ),
            Table(
                "Table 9, accuracy by gender and by ethnicity, mean over the seeds",
                tables.accuracy_by_group(results, "slice"),
            ),
            Table(
                "The knapsack layer's gradients side by side at the best trial's k, epsilon and "
                f"lr: accuracy in % after {tables.gradient_epochs(results)} epochs of each",
                tables.gradients(results),
            ),
            _times(results),
            _provenance(results),
        ]
    )


def _present(parts: Sequence[Part]) -> list[Part]:
    """The parts that are not empty."""
    return [
        part for part in parts if not (part.frame.empty if isinstance(part, Table) else part == "")
    ]


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
