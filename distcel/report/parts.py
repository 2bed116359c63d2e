"""The parts of a report in their order: sentences, tables and figures, in no layout yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from distcel.report import gradients, leads, notes, selection, sentences, tables
from distcel.report.claims import SMART
from distcel.report.frame import (
    Results,
    comparisons,
    launches,
    rule_titles,
    title,
)


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


@dataclass(frozen=True)
class Chart:
    """A figure with its caption, what it is in words, and its numbers as a frame of texts."""

    caption: str
    figure: Any
    alt: str
    numbers: pd.DataFrame | None = None


@dataclass(frozen=True)
class Gallery:
    """Samples with the learners that voted, as `details.json` has them, by their names."""

    caption: str
    samples: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Commands:
    """Commands, one a line."""

    caption: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Notes:
    """Sentences that explain what is above them."""

    caption: str
    sentences: Sequence[str]


Part = str | Table | Figure | Chart | Gallery | Commands | Notes


def launch_title(results: Results) -> str:
    """The title of one launch."""
    return f"{title(results)}, seed {results['seed']}"


def reproduction_title(results: Results) -> str:
    """The title of a reproduction."""
    return title(launches(results)[0])


def launch_parts(results: Results) -> list[Part]:
    """Tables 1 to 3 of one launch, with the paper's numbers beside its own."""
    read = sentences.added_after_test({launch_title(results): results["test_read_after"]})
    left_out = sentences.duplicates([results["n_duplicates"]])
    point = {"distcel": (results["best"], results["valid_accuracy"])}
    given = "predictors" in results
    spent = selection.spent(results) if given else ""
    return _present(
        [
            f"Accuracy in % on the {results['n_samples']['test']} samples of the test split. "
            f"{spent}{left_out}{read}{notes.of_precision([results])}{results['note']}",
            *(_predictors(results) if given else [_base_learners(results)]),
            Table("Table 2, smart ensemble and consensus rules", tables.table_2([results])),
            Table("Table 3, best sub-ensemble", tables.table_3(point, results)),
            sentences.pruned(results),
        ]
    )


def _base_learners(results: Results) -> Table:
    return Table("Table 1, base learners (mean)", tables.table_1([results]))


def _predictors(results: Results) -> list[Part]:
    """Given predictors with their prices, and whom the ensemble asks."""
    priced = results["front"] is not None
    asked = "Who is asked, in % of the test samples of a class"
    return [
        Table("Predictors", selection.predictors(results)),
        *(
            [Table("Accuracy over price, before the training on valid", selection.front(results))]
            if priced
            else []
        ),
        Table(asked, selection.asked_by_class(results)),
    ]


_SUMMARY = "In short: mean over the seeds, in brackets its 95 % t-interval"


def papers_parts(results: Results) -> list[Part]:
    """The paper's tables over the seeds, and the summary."""
    found = launches(results)
    seeds = [launch["seed"] for launch in found]
    read = sentences.added_after_test(
        {f"seed {launch['seed']}": launch["test_read_after"] for launch in found}
    )
    read += sentences.readings([*found, *comparisons(results)])
    left_out = sentences.duplicates([launch["n_duplicates"] for launch in found])
    return _present(
        [
            f"`{results['command']}`",
            "Accuracy in % on the test split, mean ± standard deviation over seeds "
            f"{seeds}. What is chosen is chosen on the valid split. {sentences.sizes(found)}"
            f"{left_out}{read}{notes.of_precision(found)}{found[0]['note']}",
            Table(_SUMMARY, leads.summary(results)),
            Table("Table 1, base learners (mean over the learners)", tables.table_1(found)),
            Table("Table 2, smart ensemble and consensus rules", tables.table_2(found)),
            Table("Table 3, best sub-ensemble", tables.best_points(results)),
            sentences.searches(found),
        ]
    )


def further_parts(results: Results) -> list[Part]:
    """Every rule over the seeds, the figures, calibration and gradients."""
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
            sentences.diverged(results),
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
            sentences.chosen_otherwise(results),
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
                f"lr: accuracy in % after {gradients.n_epochs(results)} epochs of each",
                gradients.gradients_table(results),
            ),
        ]
    )


def _present(parts: Sequence[Part]) -> list[Part]:
    """The parts that are not empty."""
    return [
        part for part in parts if not (part.frame.empty if isinstance(part, Table) else part == "")
    ]
