"""Learn which of your own predictors to ask for each sample, and how to combine what they answer.

distcel select --predictions DIR --truth truth.csv --features FILE
distcel select --predictions DIR --truth truth.csv --always NAME --prices prices.json --budget 5
No predictor is trained. The same command again continues where it was stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from distcel.cli.flags import (
    add_output_flags,
    add_worker_flags,
    fixed_values,
    require_workers,
    workers,
)
from distcel.cli.output import put, run_shown
from distcel.cli.search import show_end
from distcel.experiment.errors import (
    invalid,
    require,
    require_count,
    require_non_negative,
    require_positive,
)

# The flags that are arguments of `select` as they are.
_SAME = (
    *("predictions", "truth", "features", "always", "prices", "budget", "image_size", "run_dir"),
    *("num_samples", "seed", "time_budget", "mlflow_uri"),
)
SUMMARY = "learn which of your own predictors to ask for each sample"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `select`."""
    add = flags.add_argument
    add(
        "--predictions",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder with a CSV, Parquet or Arrow file a predictor, or an .npy or .npz file of "
        "shape (samples, predictors, classes) (required)",
    )
    add(
        "--truth",
        type=Path,
        required=True,
        metavar="FILE",
        help="a table with sample_id, label and, if it has it, split (required)",
    )
    add(
        "--features",
        type=Path,
        metavar="PATH",
        help="what the selection net sees: a folder of images, or a table or an .npy file (none)",
    )
    add(
        "--always",
        action="append",
        default=[],
        metavar="NAME",
        help="a predictor that is asked for every sample, whose answers the selection net sees; "
        "repeatable (none)",
    )
    add(
        "--prices",
        type=Path,
        metavar="FILE",
        help="a JSON object from each predictor's name to its price (1 each)",
    )
    add(
        "--budget",
        type=float,
        metavar="PRICE",
        help="the highest mean price of a sample (no limit)",
    )
    add(
        "--shares",
        default="0.4,0.1,0.5",
        metavar="A,B,C",
        help="shares of train, valid and test, if the truth has no splits (0.4,0.1,0.5)",
    )
    add("--image-size", type=int, metavar="PIXELS", help="side of the images (their own)")
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/NAME-select-seedN)")
    add("--seed", type=int, default=0, metavar="N", help="of splits, networks and search (0)")
    add("--num-samples", type=int, metavar="N", help="trials in all (8)")
    add("--time-budget", type=float, metavar="SECONDS", help="limit of a launch's search (none)")
    add(
        "--fix",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="k, epsilon, m, lr or gradient that is not searched; with prices k is the highest "
        "number of predictors beside those that are always asked; repeatable (none)",
    )
    add_worker_flags(flags, register=False)
    add("--dry-run", action="store_true", help="check, and print what would run (off)")
    add_output_flags(flags)


def run(arguments: argparse.Namespace) -> int:
    """Select; returns the exit status.

    Raises:
        InvalidInputError: a flag's value is unusable.
        RunFailedError: the search failed.
    """
    started = time.monotonic()
    require(0 <= arguments.seed < 2**31, "0 <= --seed < 2^31", arguments.seed, "give such a seed")
    if arguments.num_samples is not None:
        require_count("--num-samples", arguments.num_samples)
    if arguments.time_budget is not None:
        require_positive("--time-budget", arguments.time_budget)
    if arguments.budget is not None:
        require_non_negative("--budget", arguments.budget)
    require_workers(arguments)
    fixed, shares = fixed_values(arguments.fix), _shares(arguments.shares)

    chosen = {
        **{name: getattr(arguments, name) for name in _SAME},
        "shares": shares,
        "fixed": fixed,
    }
    from distcel.facade.select import chosen_selection, select

    if arguments.dry_run:
        from distcel.search.preview import preview_selection

        prepare, _ = chosen_selection(**chosen)
        put(preview_selection(prepare()))
        return 0
    with run_shown(arguments):
        done = select(**chosen, workers=workers(arguments))
    show_end(arguments, done.run_dir, started)
    return 0


def _shares(text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = map(float, text.split(","))
    except ValueError:
        rule, remedy = "three numbers as --shares", "give --shares 0.4,0.1,0.5, say"
        raise invalid(rule, repr(text), remedy) from None
    return train, valid, test
