"""The flags that several commands share, and the options that they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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

_KINDS = {"k": int, "epsilon": float, "m": int, "lr": float, "gradient": str, "vote": str}


def add_data_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that choose data set and preset."""
    add = flags.add_argument
    add("--dataset", default="digits", metavar="NAME", help=f"{', '.join(DATASETS)} (digits)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where it is (data)")
    add(
        "--preset",
        default="quick",
        metavar="NAME",
        help=f"{', '.join(PRESET_NAMES)}: seconds, minutes, hours (of fer2013 and "
        "utkface), the published recipe (quick)",
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
