"""The tables of a reproduction as Markdown: over several seeds, the paper's numbers beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from distcel.core.cost import pareto_front
from distcel.evaluate.measures import SMART, Measures
from distcel.evaluate.outcomes import (
    CURVES,
    SeedOutcome,
    accuracies_at,
    common_ks,
    common_rules,
    cost_points,
    mean_and_deviation,
)
from distcel.evaluate.significance import Difference
from distcel.experiment.types import Published
from distcel.report.launch import table_3
from distcel.report.markdown import markdown
from distcel.rules.learned_vote import LEARNED_VOTE
from distcel.rules.registry import CHOSEN_ON_VALID, FITTED_ON
from distcel.rules.trained import TrainedRule


def beside_paper(
    names: Sequence[str],
    ours: Callable[[str], list[float]],
    paper: Callable[[str], float | None],
) -> str:
    """Tables 1 and 2: each seed's fractions by name, the paper's and the difference, in percent."""
    published = {name: paper(name) for name in names}
    rows = [("distcel", [mean_and_deviation(ours(name)) for name in names])]
    rows.append(("paper", ["-" if x is None else f"{100 * x:.2f}" for x in published.values()]))
    differences = [
        "-" if x is None else f"{100 * (statistics.mean(ours(name)) - x):+.2f}"
        for name, x in published.items()
    ]
    return markdown(["", *names], [*rows, ("difference", differences)])


def best_points(outcomes: Sequence[SeedOutcome], published: Published | None) -> str:
    """Table 3: what each seed's search chose, and its search of the learned vote, if any."""
    points = []
    for outcome in outcomes:
        results, seed = outcome.results, f"seed {outcome.results['seed']}"
        points.append((seed, results["best"], results["valid_accuracy"]))
        if learned := outcome.comparison.learned_vote:
            own = learned.params.as_dict(), learned.valid_accuracy
            points.append((f"{seed}, {LEARNED_VOTE}", *own))
    return table_3(points, outcomes[0].results["n_learners"], published)


def every_rule(outcomes: Sequence[SeedOutcome]) -> str:
    """Table 4: accuracy, calibration error and each leader's lead."""
    fitted: dict[str, str] = dict(FITTED_ON)
    fitted |= dict.fromkeys([SMART, LEARNED_VOTE, *outcomes[0].comparison.trained], "train")
    if outcomes[0].results["selector_split"] == "holdout":
        fitted |= {title: "held-out fifth" for title, on in fitted.items() if on == "train"}
    measures, leading = [outcome.comparison.measures for outcome in outcomes], leaders(outcomes)
    rows = []
    for title in common_rules(outcomes):
        errors = [m.calibration_error[title] for m in measures if title in m.calibration_error]
        cells = [
            fitted.get(title, "-"),
            mean_and_deviation([m.accuracy[title] for m in measures]),
            mean_and_deviation(errors) if errors else "-",
            *(_mean_lead(measures, leader, title) for leader in leading),
        ]
        rows.append((title, cells))
    leads = [f"{leader} minus it" for leader in leading]
    return markdown(["rule", "fitted on", "accuracy", "calibration error", *leads], rows)


def leaders(outcomes: Sequence[SeedOutcome]) -> list[str]:
    """E2e-CEL, and the learned vote where every seed has it."""
    against = [outcome.comparison.measures.against for outcome in outcomes]
    return [title for title in against[0] if all(title in of_seed for of_seed in against)]


def _mean_lead(measures: Sequence[Measures], leader: str, title: str) -> str:
    leads = [m.against[leader][title].mean for m in measures if title in m.against[leader]]
    return mean_and_deviation(leads, sign="+") if leads else "-"


def leads_by_seed(outcomes: Sequence[SeedOutcome], leader: str) -> str:
    """Table 5: how far the leader is ahead of each rule, with the interval and the p."""
    by_seed = [outcome.comparison.measures.against[leader] for outcome in outcomes]
    compared = [title for title in common_rules(outcomes) if title in by_seed[0]]
    rows = [(title, [_lead(of_seed[title]) for of_seed in by_seed]) for title in compared]
    return markdown([f"{leader} minus", *_seeds(outcomes)], rows)


def _lead(of: Difference) -> str:
    interval = f"[{100 * of.low:+.2f}, {100 * of.high:+.2f}]"
    return f"{100 * of.mean:+.2f} {interval} {_probability(of.p)}"


def _seeds(outcomes: Sequence[SeedOutcome]) -> list[str]:
    return [f"seed {outcome.results['seed']}" for outcome in outcomes]


def _probability(p: float) -> str:
    """To two digits; an exact test's is never 0, though it may be too small for a float."""
    return "p < 1e-12" if p < 1e-12 else f"p {p:.2g}"


def chosen_on_valid(outcomes: Sequence[SeedOutcome]) -> str:
    """Table 6: what each rule that had no search of its own chose; empty if none did."""
    settings = [outcome.comparison.settings for outcome in outcomes]
    trained = [outcome.comparison.trained for outcome in outcomes]
    rows = [
        (title, [what.replace("_", " "), *(f"{of_seed[title]:g}" for of_seed in settings)])
        for title, what in CHOSEN_ON_VALID.items()
        if title in settings[0]
    ]
    for title in dict.fromkeys(title for of_seed in trained for title in of_seed):
        cells = [_lr_and_accuracy(of_seed.get(title)) for of_seed in trained]
        rows.append((title, ["learning rate (accuracy on valid)", *cells]))
    return markdown(["rule", "what", *_seeds(outcomes)], rows) if rows else ""


def _lr_and_accuracy(rule: TrainedRule | None) -> str:
    return f"{rule.lr:.3g} ({100 * rule.valid_accuracy:.2f})" if rule else "-"


def class_accuracy(outcomes: Sequence[SeedOutcome]) -> str:
    """Table 7: of every rule the share of each class's samples that it finds (recall)."""
    found = [outcome.comparison.measures.class_accuracy for outcome in outcomes]
    sizes = outcomes[0].comparison.measures.class_sizes  # every seed has the same test split
    rows = _by_group(common_rules(outcomes), found, sizes)
    return markdown(["rule", *sizes], [("samples", [str(n) for n in sizes.values()]), *rows])


def cost_against_accuracy(outcomes: Sequence[SeedOutcome]) -> str:
    """Table 8: what an image costs at each k of Figure 2 and by others, and what is worth it."""
    points, rows = cost_points(outcomes), []
    means = [statistics.mean(point.accuracies) for point in points]
    front_of_all = pareto_front([point.multiply_adds for point in points], means)
    on_front = {(points[i].multiply_adds, means[i]) for i in front_of_all}  # equal points share it
    for i, point in enumerate(points):
        front = ("yes, the knee" if point.is_knee else "yes") if point.on_front else "no"
        here = (point.multiply_adds, means[i])
        cells = [
            f"{point.k:.4g}",
            f"{point.multiply_adds / 1e6:.3f}",
            mean_and_deviation(point.accuracies),
            front if point.rule == SMART else "-",
            "yes" if here in on_front else "no",
        ]
        rows.append((point.rule, cells))
    header = ["rule", "learners asked", "million multiply-adds", "accuracy", "front over k"]
    header.append("front of all rows")
    return markdown(header, rows)


def slice_accuracy(outcomes: Sequence[SeedOutcome]) -> str:
    """Table 9: every rule's accuracy on each slice; empty where the data set has no slices."""
    sizes = outcomes[0].comparison.measures.slice_sizes  # every seed has the same test split
    if not sizes:
        return ""
    found = [outcome.comparison.measures.slice_accuracy for outcome in outcomes]
    rows = _by_group(common_rules(outcomes), found, sizes)
    return markdown(["rule", *sizes], [("samples", [str(n) for n in sizes.values()]), *rows])


def _by_group(
    titles: Sequence[str],
    found: Sequence[Mapping[str, Mapping[str, float]]],
    groups: Iterable[str],
) -> list[tuple[str, list[str]]]:
    """Each rule's mean over the seeds in each group, in percent; `-` in one without samples."""
    rows = []
    for title in titles:
        values = [[of_seed[title].get(name) for of_seed in found] for name in groups]
        rows.append((title, [_mean(of_group) for of_group in values]))
    return rows


def _mean(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{100 * statistics.mean(there):.2f}" if there else "-"


def diverged(outcomes: Sequence[SeedOutcome]) -> str:
    """What the tables lack because it diverged in some seed, as a sentence; empty if nothing is."""
    seeds: dict[str, list[str]] = {}
    for outcome in outcomes:
        for title in outcome.comparison.diverged:
            seeds.setdefault(title, []).append(str(outcome.results["seed"]))
    if not seeds:
        return ""
    titles = "; ".join(f"{title} (seed {', '.join(of)})" for title, of in seeds.items())
    return f"Diverged, and so left out of the tables and Figure 2: {titles}."


def figure_2(outcomes: Sequence[SeedOutcome]) -> str:
    """Figure 2's numbers."""
    rows = [
        (str(k), [mean_and_deviation(accuracies_at(outcomes, k, title)) for title in CURVES])
        for k in common_ks(outcomes)
    ]
    return markdown(["k", *CURVES], rows)


def chosen_otherwise(outcomes: Sequence[SeedOutcome]) -> str:
    """What choosing among Figure 2's k would have given, on valid and on test, in two sentences."""

    def with_k(accuracies: Sequence[Mapping[int, float]]) -> str:
        ks = [max(of_seed, key=of_seed.__getitem__) for of_seed in accuracies]
        reached = [o.comparison.curve[k][SMART] for o, k in zip(outcomes, ks, strict=True)]
        return f"{', '.join(map(str, ks))}, and e2e-CEL {mean_and_deviation(reached)}"

    valid = [outcome.comparison.valid_curve for outcome in outcomes]
    curves = [outcome.comparison.curve for outcome in outcomes]
    test = [{k: curve[k][SMART] for k in curve} for curve in curves]
    return (
        "Had k been chosen among these and the searched one, each seed's on its valid split, it "
        f"would have been {with_k(valid)} on test. Had it been chosen on the test split, as the "
        f"authors' code does, it would have been {with_k(test)}: the highest point of each curve, "
        "not a result."
    )
