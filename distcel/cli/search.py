"""Train the base learners, search the selection net's hyperparameters, report the test split.

distcel search                                       1,797 digits, no download
distcel search --dataset fer2013 --data-dir DIR      your copy of a data set
The same command again continues where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distcel.cli.flags import (
    add_data_flags,
    add_output_flags,
    add_search_flags,
    add_worker_flags,
    fit_options,
    workers,
)
from distcel.cli.output import put, run_shown
from distcel.experiment.errors import require
from distcel.search.options import tracking_uri

logger = logging.getLogger(__name__)

SUMMARY = "search the hyperparameters of a smart ensemble and measure it on test"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `search`."""
    add = flags.add_argument
    add_data_flags(flags)
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/DATASET-PRESET[-SPLIT]-seedN)")
    add("--seed", type=int, default=0, metavar="N", help="of splits, networks and search (0)")
    add_search_flags(flags)
    add_worker_flags(flags)
    add(
        "--prune",
        action="store_true",
        help="leave out of ensemble/ the base learners that no sample of valid selects, and report "
        "what that changes (off)",
    )
    add("--dry-run", action="store_true", help="print what would run, and for how long (off)")
    add_output_flags(flags)


def run(arguments: argparse.Namespace) -> int:
    """Search; returns the exit status.

    Raises:
        InvalidInputError: a flag's value is unusable.
        RunFailedError: the search failed.
    """
    started = time.monotonic()
    seed, run_dir = arguments.seed, arguments.run_dir
    require(0 <= seed < 2**31, "0 <= --seed < 2^31", seed, "give such a seed")
    options = fit_options(arguments)
    if arguments.dry_run:
        return _dry_run(arguments, options)

    from distcel.facade.fit import fit

    chosen = {"run_dir": run_dir, "seed": seed, "workers": workers(arguments), **options}
    chosen["prune"] = arguments.prune
    with run_shown(arguments):
        done = fit(**chosen)
    show_end(arguments, done.run_dir, started)
    return 0


def show_end(arguments: argparse.Namespace, run_dir: Path, started: float) -> None:
    """Log where the results are and how to compare runs, and print them as the flags say."""
    logger.info("%s/results.json after %.0f s", run_dir, time.monotonic() - started)
    uri = tracking_uri(arguments.mlflow_uri, run_dir)
    if uri != "none":
        logger.info("compare runs: %s", how_to_compare(uri))
    put_result(arguments, run_dir)


def put_result(arguments: argparse.Namespace, folder: Path) -> None:
    """Print results.json with --json, and with --quiet the report, which the log has otherwise."""
    if arguments.json:
        put((folder / "results.json").read_text().rstrip("\n"))
    elif arguments.quiet:
        put((folder / "report.md").read_text().rstrip("\n"))


def how_to_compare(mlflow_uri: str) -> str:
    """The command or the host that shows the runs, without a password."""
    if not mlflow_uri.startswith("sqlite"):  # all others may contain a password
        return f"{urlsplit(mlflow_uri).hostname}, the MLflow server"
    ui = f"{Path(sys.executable).with_name('mlflow')} ui --workers 1"
    return f"{ui} --backend-store-uri {shlex.quote(mlflow_uri)}"


def _dry_run(arguments: argparse.Namespace, options: dict[str, Any]) -> int:
    import torch

    from distcel.execute.pool import WorkerPool
    from distcel.search.options import choose
    from distcel.search.preview import preview

    experiment, chosen = choose(seed=arguments.seed, **options)
    here = {"CPU": len(os.sched_getaffinity(0)), "GPU": torch.cuda.device_count()}
    pool = WorkerPool.on_nodes([here], arguments.gpus_per_worker)
    size = 1 if arguments.executor == "inline" else pool.size
    put(preview(experiment, chosen).describe(size))
    return 0
