"""Federated clients whose learners a server selects: accuracy over the server's share of labels.

    python -m benchmarks.federated --data-dir DIR --run-dir RUN [--alphas 0.1 1] [--shares 0.01]
        [--figure FILE.svg]

CIFAR-10's training samples are divided among 20 clients by Dirichlet(alpha); each trains one
network on its own. The server has labels for a share of the training samples, which no client has;
three quarters train the selection net and every rival that is fitted on train, a quarter is the
valid split. A share of 1 stands for a server that has all the labels, those of the clients too.
The brief single network is one network on the server's labels alone. Everything is kept in RUN, so
that the same command continues where it was stopped. What was measured is also kept in
`benchmarks/federated.json`, from all of which the table and the figure are made. Each run reads the
test split twice, at its launch and in its comparison; nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import distcel
from benchmarks.measure import table
from distcel.experiment.learner_sets import Clients
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment
from distcel.rules import registry
from distcel.rules.registry import ORACLE
from distcel.storage.files import write_bytes

N_CLIENTS, N_TRAIN = 20, 50_000
ALPHAS, SHARES = (0.05, 0.1, 0.3, 1.0), (0.005, 0.01, 0.05, 0.1, 1.0)
CLIENT_EPOCHS = 10
LEAST_STEPS = 600  # of a training on the server's labels, however few they are
RULES = (
    "e2e_cel",
    "constant_control",
    "unweighted_average",
    "plurality_vote",
    "prior_corrected_pool",
    "super_learner",
    "stacking",
    "fc_super_learner_on_train",
    "brief_single_network",
    "oracle",
)
IN_FIGURE = tuple(key for key in RULES if key != "oracle")

MEASURED = Path(__file__).with_name("federated.json")

Cell = tuple[float, float, int]  # alpha, share, seed
Means = dict[tuple[float, float], dict[str, float]]  # accuracy on test in %, by alpha and share


def federated(alpha: float, share: float) -> Experiment:
    """CIFAR-10's preset quick with clients in place of specialists."""
    quick = load_experiment("cifar10", "quick")
    # A quarter of the server's labels is valid, and the rest is held out from the clients.
    valid_share = min(share / 4, quick.valid_share)
    holdout_share = 1 / round((1 - valid_share) / (0.75 * share)) if share < 1 else 0.2
    n_server = 0.75 * share * N_TRAIN if share < 1 else (1 - valid_share) * N_TRAIN
    steps = math.ceil(n_server / quick.selector_recipe.batch_size)
    epochs = max(quick.selector_recipe.epochs, math.ceil(LEAST_STEPS / steps))
    return replace(
        quick,
        learner_sets=Clients(N_CLIENTS, alpha),
        valid_share=valid_share,
        holdout_share=holdout_share,
        learner_recipe=replace(quick.learner_recipe, epochs=CLIENT_EPOCHS),
        selector_recipe=replace(quick.selector_recipe, epochs=epochs),
        published=None,
        note="Federated clients.",
    )


def accuracies(
    data_dir: Path, folder: Path, alpha: float, share: float, seed: int
) -> dict[str, float]:
    """Accuracy on test in %, by rule, of one run."""
    run_dir = folder / f"alpha{alpha:g}-share{share:g}-seed{seed}"
    kept = run_dir / "comparison.json"
    if not kept.is_file():
        run = distcel.fit(
            federated(alpha, share),
            data_dir=data_dir,
            run_dir=run_dir,
            seed=seed,
            selector_split="train" if share == 1 else "holdout",
            mlflow_uri="none",
            executor="inline",
        )
        distcel.compare(run, executor="inline")
    rules: dict[str, Any] = json.loads(kept.read_text())["rules"]
    return {key: round(100 * rules[key]["accuracy"], 2) for key in RULES if key in rules}


def read_cells() -> dict[Cell, dict[str, float]]:
    """The accuracies that were measured, here or elsewhere, by cell and rule."""
    kept = json.loads(MEASURED.read_bytes())
    return {(one["alpha"], one["share"], one["seed"]): one["accuracies"] for one in kept}


def write_cells(cells: dict[Cell, dict[str, float]]) -> None:
    """Keep the accuracies, one cell a line."""
    lines = [
        json.dumps({"alpha": alpha, "share": share, "seed": seed, "accuracies": accuracies})
        for (alpha, share, seed), accuracies in sorted(cells.items())
    ]
    write_bytes(MEASURED, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def means_of(cells: dict[Cell, dict[str, float]]) -> Means:
    """The means over the seeds."""
    by_pair: dict[tuple[float, float], list[dict[str, float]]] = {}
    for (alpha, share, _), found in sorted(cells.items()):
        by_pair.setdefault((alpha, share), []).append(found)
    return {
        pair: {key: fmean(run[key] for run in runs) for key in runs[0]}
        for pair, runs in by_pair.items()
    }


def report(means: Means) -> str:
    """The table, as Markdown: a row for each alpha and share."""
    rows = [
        [
            f"{alpha:g}",
            f"{share:.1%}",
            *(f"{of[key]:.2f}" if key in of else "-" for key in RULES),
        ]
        for (alpha, share), of in means.items()
    ]
    return table(["alpha", "labels", *map(_title, RULES)], rows)


def _title(key: str) -> str:
    return (ORACLE if key == ORACLE.key else registry.RULES[key]).title


def draw(means: Means, file: Path) -> None:
    """Accuracy over the share of labels, a panel for each alpha, a line for each rule."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "federated"  # the same picture gives the same file
    from matplotlib import pyplot

    alphas = list(dict.fromkeys(alpha for alpha, _ in means))
    width, n_columns = (2.6 * len(alphas), 4) if len(alphas) > 2 else (5.6, 2)
    figure, panels = pyplot.subplots(
        1, len(alphas), sharey=True, squeeze=False, figsize=(width, 4), layout="constrained"
    )
    for alpha, axes in zip(alphas, panels[0], strict=True):
        shares = [share for at, share in means if at == alpha]
        for key in IN_FIGURE:
            heights = [means[alpha, share].get(key, math.nan) for share in shares]
            bold = 2.5 if key == "e2e_cel" else 1.0
            style = "--" if key in ("constant_control", "brief_single_network") else "-"
            axes.plot(shares, heights, style, marker="o", ms=3, lw=bold, label=_title(key))
        axes.set(title=f"alpha = {alpha:g}", xscale="log", xlabel="server's labels, %")
        axes.set_xticks(shares, [f"{100 * share:g}" for share in shares])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("accuracy on test, %")
    legend = panels[0][0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=n_columns)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """As the command line says."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--data-dir", type=Path, default=Path("data"))
    flags.add_argument("--run-dir", type=Path, required=True)
    flags.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    flags.add_argument("--shares", type=float, nargs="+", default=SHARES)
    flags.add_argument("--figure", type=Path, help="an SVG file")
    flags.add_argument("--seeds", type=int, default=3)
    chosen = flags.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("distcel").setLevel(logging.INFO)
    for cell in itertools.product(chosen.alphas, chosen.shares, range(chosen.seeds)):
        found = accuracies(chosen.data_dir, chosen.run_dir, *cell)
        print(*cell, found, flush=True)
        # Read again each time: another process may measure other cells meanwhile.
        write_cells({**read_cells(), cell: found})
    means = means_of(read_cells())
    print(report(means))
    if chosen.figure:
        draw(means, chosen.figure)


if __name__ == "__main__":
    main()
