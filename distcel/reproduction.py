"""The paper's tables and Figure 2 over several seeds, its numbers beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distcel.comparison import SMART, Comparison, rules
from distcel.report import RULE_TITLES, markdown
from distcel.storage import write_atomically, write_json
from distcel.types import Published

_PAPER_RULES = {title: name for name, title in RULE_TITLES.items()}
_CURVES = (SMART, "RS", "UA", "PV", "SL")


@dataclass(frozen=True)
class SeedOutcome:
    """One seed's run.

    Attributes:
        results: the content of its `results.json`.
        comparison: what was measured beside it.
    """

    results: Mapping[str, Any]
    comparison: Comparison


def mean_and_deviation(values: Sequence[float], scale: float = 100.0) -> str:
    """In percent; the standard deviation is the sample's, and missing for one value."""
    mean = f"{scale * statistics.mean(values):.2f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.2f}"


def report(
    title: str,
    command: str,
    outcomes: Sequence[SeedOutcome],
    published: Published | None,
) -> str:
    """Everything as Markdown.

    Args:
        title: heading.
        command: that regenerates it.
        outcomes: of each seed.
        published: the paper's numbers, where it has any.
    """
    first = outcomes[0].results
    seeds = [outcome.results["seed"] for outcome in outcomes]
    versions = ", ".join(f"{name} {v}" for name, v in first["versions"].items())
    minutes = sum(sum(o.results["seconds"].values()) for o in outcomes) / 60
    sections = [
        f"# {title}",
        f"`{command}`",
        f"Accuracy in % on the test split, mean ± standard deviation over seeds {seeds}. What is "
        "chosen is chosen on the valid split.",
        "Table 1, base learners (mean over the learners)",
        _beside_paper(
            ["specialised", "complementary", "overall"],
            lambda name: [outcome.results[name] for outcome in outcomes],
            lambda name: getattr(published, name, None),
        ),
        "Table 2, smart ensemble and consensus rules",
        _beside_paper(
            list(_PAPER_RULES),
            lambda name: [outcome.comparison.accuracy[name] for outcome in outcomes],
            lambda name: getattr(published, _PAPER_RULES[name], None),
        ),
        "Table 3, best sub-ensemble",
        _table_3(outcomes, published),
        "Table 4, every rule, and how much better e2e-CEL is: in brackets the 95 % interval of the "
        "paired bootstrap and the p of McNemar's test, seed by seed",
        _table_4(outcomes),
        "Figure 2, accuracy over k",
        _figure_2(outcomes),
        _chosen_on_test(outcomes),
        f"Stages of the launches: {minutes:.1f} minutes in all. {versions}.",
    ]
    return "\n\n".join(sections) + "\n"


def _beside_paper(
    names: Sequence[str],
    ours: Callable[[str], list[float]],
    paper: Callable[[str], float | None],
) -> str:
    published = {name: paper(name) for name in names}
    rows = [("distcel", [mean_and_deviation(ours(name)) for name in names])]
    rows.append(("paper", ["-" if x is None else f"{100 * x:.2f}" for x in published.values()]))
    differences = [
        "-" if x is None else f"{100 * (statistics.mean(ours(name)) - x):+.2f}"
        for name, x in published.items()
    ]
    return markdown(["", *names], [*rows, ("difference", differences)])


def _table_3(outcomes: Sequence[SeedOutcome], published: Published | None) -> str:
    names = ["k", "epsilon", "m", "lr", "gradient"]
    rows = []
    for outcome in outcomes:
        best, n = outcome.results["best"], outcome.results["n_learners"]
        point = [f"{x:.3g}" if isinstance(x, float) else str(x) for x in map(best.get, names)]
        valid = f"{100 * outcome.results['valid_accuracy']:.2f}"
        rows.append((f"seed {outcome.results['seed']}", [str(n), *point, valid]))
    paper_k = str(published.k) if published else "-"
    rows.append(("paper", ["-", paper_k, "-", "-", "-", "-", "-"]))
    return markdown(["", "n", *names, "valid accuracy"], rows)


def _table_4(outcomes: Sequence[SeedOutcome]) -> str:
    fitted = {title: on for title, (on, _) in rules(1, 0).items()}
    rows = []
    for title in outcomes[0].comparison.accuracy:
        values = [outcome.comparison.accuracy[title] for outcome in outcomes]
        differences = [o.comparison.against.get(title) for o in outcomes]
        by_seed = [
            f"{100 * d.mean:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}] p {d.p:.1g}"
            for d in differences
            if d is not None
        ]
        cells = [fitted.get(title, "-"), mean_and_deviation(values), "; ".join(by_seed) or "-"]
        rows.append((title, cells))
    return markdown(["rule", "fitted on", "accuracy", "e2e-CEL minus it"], rows)


def _ks(outcomes: Sequence[SeedOutcome]) -> list[int]:
    """The values of k that every seed has."""
    sets = [set(outcome.comparison.curve) for outcome in outcomes]
    return sorted(set.intersection(*sets))


def _at(outcomes: Sequence[SeedOutcome], k: int, title: str) -> list[float]:
    return [outcome.comparison.curve[k][title] for outcome in outcomes]


def _figure_2(outcomes: Sequence[SeedOutcome]) -> str:
    rows = [
        (str(k), [mean_and_deviation(_at(outcomes, k, title)) for title in _CURVES])
        for k in _ks(outcomes)
    ]
    return markdown(["k", *_CURVES], rows)


def _chosen_on_test(outcomes: Sequence[SeedOutcome]) -> str:
    best = []
    for outcome in outcomes:
        curve = outcome.comparison.curve
        k = max(curve, key=lambda k: curve[k][SMART])
        best.append((k, curve[k][SMART]))
    ks = ", ".join(str(k) for k, _ in best)
    gain = mean_and_deviation([accuracy for _, accuracy in best])
    return (
        f"Had k been chosen on the test split, as the authors' code does, it would have been {ks} "
        f"of these, and e2e-CEL {gain}: the highest point of the curve, not a result."
    )


def draw_figure_2(title: str, outcomes: Sequence[SeedOutcome], folder: Path) -> None:
    """Figure 2 with a band of one standard deviation, as `figure2.png` and `figure2.svg`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    ks = _ks(outcomes)
    for name in _CURVES:
        values = [[100 * x for x in _at(outcomes, k, name)] for k in ks]
        means = [statistics.mean(v) for v in values]
        widths = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
        (line,) = axes.plot(ks, means, marker="o" if name in (SMART, "RS") else None, label=name)
        axes.fill_between(
            ks,
            [m - w for m, w in zip(means, widths, strict=True)],
            [m + w for m, w in zip(means, widths, strict=True)],
            color=line.get_color(),
            alpha=0.15,
            linewidth=0,
        )
    axes.set(xlabel="k, learners that vote", ylabel="test accuracy, %", title=title)
    axes.legend()
    for kind in ("png", "svg"):
        save = partial(figure.savefig, format=kind, dpi=150)
        write_atomically(folder / f"figure2.{kind}", save)


def write(
    folder: Path,
    title: str,
    command: str,
    outcomes: Sequence[SeedOutcome],
    published: Published | None,
) -> str:
    """Write report.md, results.json and the figure into the folder; returns the report."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report(title, command, outcomes, published)
    write_atomically(folder / "report.md", lambda file: file.write(text.encode()))
    draw_figure_2(title, outcomes, folder)
    write_json(
        folder / "results.json",
        {
            "command": command,
            "seeds": [
                {
                    "results": dict(outcome.results),
                    "accuracy": dict(outcome.comparison.accuracy),
                    "e2e_cel_minus": {
                        title: asdict(d) for title, d in outcome.comparison.against.items()
                    },
                    "curve": {str(k): dict(v) for k, v in outcome.comparison.curve.items()},
                }
                for outcome in outcomes
            ],
        },
    )
    return text
