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

from distcel.cli.output import put, run_shown
from distcel.cli.signals import unwind_on_signals
from distcel.execute.address import chosen_address
from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import (
    invalid,
    require,
    require_choice,
    require_count,
    require_positive,
)
from distcel.experiment.loading import DATASETS, PRESET_NAMES, load_experiment
from distcel.experiment.types import Experiment, SelectorSplit
from distcel.search.options import tracking_uri

logger = logging.getLogger(__name__)

SUMMARY = "search the hyperparameters of a smart ensemble and measure it on test"
_KINDS = {"k": int, "epsilon": float, "m": int, "lr": float, "gradient": str, "vote": str}


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `search`."""
    add = flags.add_argument
    add_data_flags(flags)
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/DATASET-PRESET[-SPLIT]-seedN)")
    add("--seed", type=int, default=0, metavar="N", help="of splits, networks and search (0)")
    add_search_flags(flags)
    add_worker_flags(flags)
    add("--dry-run", action="store_true", help="print what would run, and for how long (off)")
    add_output_flags(flags)


def add_data_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that choose data set and preset."""
    add = flags.add_argument
    add("--dataset", default="digits", metavar="NAME", help=f"{', '.join(DATASETS)} (digits)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where it is (data)")
    add(
        "--preset",
        default="quick",
        metavar="NAME",
        help=f"{', '.join(PRESET_NAMES)}: seconds, minutes, hours (of fer2013 alone), the "
        "published recipe (quick)",
    )
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="TOML file of settings in place of the preset's: image size, architecture, recipes, "
        "learner sets, k, ... (none)",
    )


def add_search_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that choose what is searched, and for how long."""
    add = flags.add_argument
    add("--num-samples", type=int, metavar="N", help="trials in all (the preset's)")
    add("--time-budget", type=float, metavar="SECONDS", help="limit of a launch's search (none)")
    add(
        "--selector-split",
        default="train",
        metavar="NAME",
        help="what the selection net is trained on: train, which the base learners have seen; "
        "holdout, a fifth of it kept from them; or crossfit, all of it, each third predicted by "
        "copies of the base learners that have not seen it (train)",
    )
    add(
        "--fix",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="k, epsilon, m, lr or gradient that is not searched, or vote: sum, the paper's, or "
        "learned, where each base learner votes through its own matrix; k=any trains one selection "
        "net for every k; repeatable (vote=sum)",
    )
    add(
        "--imagenet-weights",
        default="published",
        metavar="FROM",
        help="of ResNet18 and EfficientNet-Lite0: published, a file, or none for random weights "
        "(published)",
    )


def add_worker_flags(flags: argparse.ArgumentParser, register: bool = True) -> None:
    """Add the flags that choose the workers and the tracker, `--register` only if wanted."""
    add = flags.add_argument
    add(
        "--mlflow-uri",
        metavar="URI",
        help="tracking server, or none for no tracking (MLFLOW_TRACKING_URI, or else mlflow.db "
        "beside the run directory)",
    )
    if register:
        add(
            "--register",
            metavar="NAME",
            help="register the ensemble in MLflow's model registry, as a version of NAME (none)",
        )
    add(
        "--executor",
        default="ray",
        metavar="NAME",
        help="ray, or inline: this process alone, without Ray (ray)",
    )
    add(
        "--address",
        metavar="ADDRESS",
        help="join this Ray cluster: HOST:PORT, auto, or local for a new one on this machine "
        "(RAY_ADDRESS, or else local)",
    )
    add(
        "--gpus-per-worker",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="share of a GPU for a base learner or trial, where there are GPUs (0.25)",
    )


def add_output_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that choose what is printed."""
    add = flags.add_argument
    amount = flags.add_mutually_exclusive_group()
    amount.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="print warnings, errors and the report alone (off)",
    )
    amount.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="print a line for each epoch as well, and Ray's own log (off)",
    )
    add("--json", action="store_true", help="print results.json, and the log on stderr (off)")


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


def fit_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that `distcel.fit` and `reproduce` share, by name, checked.

    Raises:
        InvalidInputError: a flag's value is unusable.
    """
    if arguments.num_samples is not None:
        require_count("--num-samples", arguments.num_samples)
    if arguments.time_budget is not None:
        require_positive("--time-budget", arguments.time_budget)
    require_choice("--selector-split", arguments.selector_split, SelectorSplit)
    require_workers(arguments)
    fixed = fixed_values(arguments.fix)
    return {
        "experiment": experiment_of(arguments),
        "preset": arguments.preset,
        "data_dir": arguments.data_dir,
        "num_samples": arguments.num_samples,
        "time_budget": arguments.time_budget,
        "fixed": fixed,
        "selector_split": arguments.selector_split,
        "imagenet_weights": arguments.imagenet_weights,
        "mlflow_uri": arguments.mlflow_uri,
        "register": arguments.register,
    }


def experiment_of(arguments: argparse.Namespace) -> str | Experiment:
    """The name of the data set, or its experiment as `--config` changes it.

    Raises:
        InvalidInputError: an unknown data set or preset, or an unusable config.
    """
    experiment = load_experiment(arguments.dataset, arguments.preset, arguments.config)
    return arguments.dataset if arguments.config is None else experiment


def workers(arguments: argparse.Namespace) -> Workers:
    """Where trainings run; `ray.init` replaces the signal handlers, so they are installed again."""
    executor, address = arguments.executor, arguments.address
    share, log = arguments.gpus_per_worker, arguments.verbose
    return Workers(executor, address, share, connected=unwind_on_signals, ray_log=log)


def how_to_compare(mlflow_uri: str) -> str:
    """The command or the host that shows the runs, without a password."""
    if not mlflow_uri.startswith("sqlite"):  # all others may contain a password
        return f"{urlsplit(mlflow_uri).hostname}, the MLflow server"
    ui = f"{Path(sys.executable).with_name('mlflow')} ui --workers 1"
    return f"{ui} --backend-store-uri {shlex.quote(mlflow_uri)}"


def fixed_values(pairs: list[str]) -> dict[str, Any]:
    """The values of --fix NAME=VALUE, each of its hyperparameter's type.

    Raises:
        InvalidInputError: an unknown name, or a value that is not a number.
    """
    fixed: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        require(name in _KINDS, f"--fix NAME in {list(_KINDS)}", name, "fix one of these")
        try:
            fixed[name] = "any" if (name, text) == ("k", "any") else _KINDS[name](text)
        except ValueError:
            kind = "a whole number" if _KINDS[name] is int else "a number"
            raise invalid(f"{kind} as {name}", repr(text), f"give --fix {name}=NUMBER") from None
    return fixed


def require_workers(arguments: argparse.Namespace) -> None:
    """Check the flags of `add_worker_flags`; raises InvalidInputError."""
    executor, address = arguments.executor, arguments.address
    require_positive("--gpus-per-worker", arguments.gpus_per_worker)
    require_choice("--executor", executor, ExecutorName)
    fits = address is None or executor == "ray"
    require(fits, "no --address beside --executor inline", address, "leave one of them out")
    if executor == "ray":
        chosen_address(address)


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
