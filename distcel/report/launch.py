"""The accuracies of a launch, in the paper's tables and beside its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.experiment.types import Experiment, LearnerSpec, Published
from distcel.report.markdown import markdown
from distcel.rules.consensus import RULE_TITLES, Draws, oracle_accuracy, right
from distcel.search.trials import TrialRecord
from distcel.train.cache import CachedSplit


@dataclass(frozen=True)
class Evaluation:
    """Accuracies, as fractions, on one set of samples; the first three are Table 1's."""

    n_samples: int
    specialised: float
    complementary: float
    overall: float
    accuracy: Mapping[str, float]


def evaluate(
    said: Mapping[str, Draws], test: CachedSplit, specs: tuple[LearnerSpec, ...]
) -> Evaluation:
    """The accuracies of what the rules say and of the base learners on `test`."""
    accuracy = {name: float(right(draws, test.labels_S).mean()) for name, draws in said.items()}
    specialised, complementary, overall = learner_accuracies(test, specs)
    accuracy |= {"oracle": oracle_accuracy(test), "single_mean": overall}
    return Evaluation(len(test.labels_S), specialised, complementary, overall, accuracy)


def learner_accuracies(
    split: CachedSplit, specs: tuple[LearnerSpec, ...]
) -> tuple[float, float, float]:
    """Table 1: mean accuracy of the learners on their own classes, on the others, on all.

    A learner whose classes are all there are has no others and is left out of their mean.
    """
    right_SN = split.learners_right
    own_SN = np.stack([np.isin(split.labels_S, spec.classes) for spec in specs], axis=1)
    return (
        _mean_of_columns(right_SN, own_SN),
        _mean_of_columns(right_SN, ~own_SN),
        float(right_SN.mean()),
    )


def _mean_of_columns(right_SN: NDArray[np.bool_], where_SN: NDArray[np.bool_]) -> float:
    counted_N = where_SN.sum(0)
    hits_N = (right_SN & where_SN).sum(0)
    return float((hits_N[counted_N > 0] / counted_N[counted_N > 0]).mean())


def tables(
    experiment: Experiment,
    evaluations: Mapping[str, Evaluation],
    best: TrialRecord,
    n_learners: int,
    n_duplicates: int,
    read_after: Sequence[int],
    title: str,
) -> str:
    """The paper's Tables 1 to 3 as Markdown, accuracies in percent, its numbers beside ours.

    Args:
        experiment: its published numbers and its note.
        evaluations: by the name of their row; the first one is of the whole test split.
        best: the trial whose parameters the smart ensemble has.
        n_learners: N.
        n_duplicates: samples that were left out of train and valid.
        read_after: as `TrialStore.closed_after` says it.
        title: heading.
    """
    paper, n_samples = experiment.published, next(iter(evaluations.values())).n_samples
    ours = {f"distcel{name and ', ' + name}": e for name, e in evaluations.items()}
    specialties = [(name, _percent_table_1(e)) for name, e in ours.items()]
    rules = [(name, _percent_table_2(e.accuracy)) for name, e in ours.items()]
    sections = [
        f"# {title}",
        f"Accuracy in % on the {n_samples} samples of the test split. "
        f"{duplicates([n_duplicates])}{read_before({title: read_after})}{experiment.note}".strip(),
        "Table 1, base learners (mean)",
        markdown(
            ["", "specialised", "complementary", "overall"],
            [*specialties, ("paper", _percent_table_1(paper))],
        ),
        "Table 2, smart ensemble and consensus rules",
        markdown(
            ["", *RULE_TITLES.values(), "oracle"],
            [*rules, ("paper", _percent_table_2(vars(paper) if paper else {}))],
        ),
        "Table 3, best sub-ensemble",
        table_3([("distcel", best.params.as_dict(), best.valid_accuracy)], n_learners, paper),
    ]
    return "\n\n".join(sections) + "\n"


def duplicates(counts: Sequence[int]) -> str:
    """What was left out of train and valid, if anything, as a sentence; a count for each seed."""
    if not any(counts):
        return ""
    left_out = ", ".join(map(str, counts))
    return f"Left out of train and valid, their image being there twice or in test: {left_out}. "


def read_before(read_after: Mapping[str, Sequence[int]]) -> str:
    """That trials were added when the test split had been read, if any were, as a sentence.

    Args:
        read_after: by the name of a run, as `TrialStore.closed_after` says it.
    """
    added = {name: counts[:-1] for name, counts in read_after.items() if counts[:-1]}
    if not added:
        return ""
    looks = "; ".join(f"{name} after {', '.join(map(str, n))}" for name, n in added.items())
    return f"Trials were added when the test split had been read: {looks}. "


def table_3(
    points: Sequence[tuple[str, Mapping[str, Any], float]], n_learners: int, paper: Published | None
) -> str:
    """The best sub-ensembles, each with a title, its hyperparameters and its valid accuracy.

    The exact gradient draws nothing, so it has no m.
    """
    names = ["k", "epsilon", "m", "lr", "gradient", "vote"]
    rows = []
    for title, params, valid in points:
        named = {**params, **({"m": "-"} if params["gradient"] == "exact" else {})}
        point = [f"{x:.3g}" if isinstance(x, float) else str(x) for x in map(named.get, names)]
        rows.append((title, [str(n_learners), *point, _percent(valid)]))
    published = [str(n_learners), str(paper.k), *["-"] * 4, "sum", "-"] if paper else ["-"] * 8
    return markdown(["", "n", *names, "valid accuracy"], [*rows, ("paper", published)])


def _percent_table_1(numbers: Evaluation | Published | None) -> list[str]:
    if numbers is None:
        return ["-"] * 3
    return [_percent(x) for x in (numbers.specialised, numbers.complementary, numbers.overall)]


def _percent_table_2(accuracy: Mapping[str, float]) -> list[str]:
    return [_percent(accuracy[n]) if n in accuracy else "-" for n in (*RULE_TITLES, "oracle")]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
