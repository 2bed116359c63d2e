"""Train the base learners, search the selection net's hyperparameters, report the test split.

python launch/cluster.py                                       1,797 digits, no download
python launch/cluster.py --dataset fer2013 --data-dir DIR      your copy of a data set
The same command again carries on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcel.types import InvalidInputError, require, require_count, require_positive
from search_spaces import DATASETS, PRESET_NAMES, load_experiment

if TYPE_CHECKING:
    from distcel.pipeline import Options
    from distcel.types import Experiment

_KINDS = {"k": int, "epsilon": float, "m": int, "lr": float, "gradient": str}


def parser() -> argparse.ArgumentParser:
    """The command line; nothing heavy is imported for `--help`."""
    flags = argparse.ArgumentParser(
        prog="cluster.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--dataset", default="digits", metavar="NAME", help=f"{', '.join(DATASETS)} (digits)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where it is (data)")
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/DATASET-PRESET-seedN)")
    add(
        "--preset",
        default="quick",
        metavar="NAME",
        help=f"{', '.join(PRESET_NAMES)}: seconds, minutes, the published recipe (quick)",
    )
    add("--num-samples", type=int, metavar="N", help="trials in all (the preset's)")
    add("--time-budget", type=float, metavar="SECONDS", help="limit of the search (none)")
    add("--seed", type=int, default=0, metavar="N", help="of splits, networks and search (0)")
    add(
        "--fix",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="k, epsilon, m, lr or gradient that is not searched; repeatable (none)",
    )
    add(
        "--imagenet-weights",
        default="torchvision",
        metavar="FROM",
        help="of ResNet18: torchvision, a file, or none for random weights (torchvision)",
    )
    add("--mlflow-uri", metavar="URI", help="tracking server (mlflow.db beside the run directory)")
    add("--address", metavar="ADDRESS", help="join this Ray cluster (start one on this machine)")
    add(
        "--gpus-per-worker",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="GPU share of a learner or trial, where there are GPUs (0.25)",
    )
    add("--dry-run", action="store_true", help="say what would run, and for how long (off)")
    return flags


def main() -> int:
    """Run; the exit status is 2 for unusable input."""
    arguments = parser().parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        return _launch(arguments)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _launch(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    if arguments.num_samples is not None:
        require_count("--num-samples", arguments.num_samples)
    if arguments.time_budget is not None:
        require_positive("--time-budget", arguments.time_budget)
    require_positive("--gpus-per-worker", arguments.gpus_per_worker)
    require(arguments.seed >= 0, "--seed >= 0", arguments.seed, "give a seed of 0 or more")
    fixed = _fixed(arguments.fix)
    experiment = load_experiment(arguments.dataset, arguments.preset)
    if arguments.dry_run:
        return _dry_run(arguments, experiment, fixed)

    from distcel import pipeline
    from distcel.fleet import ActorPool
    from launch.ray_cluster import connect

    options = _options(arguments, fixed)
    prepared = pipeline.prepare(experiment, options)
    with connect(arguments.address) as dashboard:
        pool = ActorPool.on_cluster(arguments.gpus_per_worker)
        print(f"Ray: {pool.size} workers at once, dashboard {dashboard}")
        pipeline.run(prepared, pool)
    print(f"{options.run_dir}/results.json after {time.monotonic() - started:.0f} s")
    print(f"compare runs: mlflow ui --workers 1 --backend-store-uri '{options.mlflow_uri}'")
    return 0


def _options(arguments: argparse.Namespace, fixed: dict[str, Any]) -> Options:
    from distcel.pipeline import Options

    default = f"runs/{arguments.dataset}-{arguments.preset}-seed{arguments.seed}"
    run_dir = (arguments.run_dir or Path(default)).absolute()
    return Options(
        preset=arguments.preset,
        data_dir=arguments.data_dir,
        run_dir=run_dir,
        seed=arguments.seed,
        num_samples=arguments.num_samples,
        time_budget=arguments.time_budget,
        mlflow_uri=arguments.mlflow_uri or f"sqlite:///{run_dir.parent / 'mlflow.db'}",
        imagenet_weights=arguments.imagenet_weights,
        fixed=fixed,
    )


def _dry_run(arguments: argparse.Namespace, experiment: Experiment, fixed: dict[str, Any]) -> int:
    from distcel.datasets import draw_splits
    from distcel.estimate import describe
    from distcel.types import first_point, learner_specs

    class_names, pools = draw_splits(experiment, arguments.data_dir, arguments.seed)
    point = first_point(experiment, len(learner_specs(class_names)), fixed)
    num_samples = arguments.num_samples or experiment.num_samples
    print(describe(experiment, class_names, pools, point, num_samples, os.cpu_count() or 1))
    return 0


def _fixed(pairs: list[str]) -> dict[str, Any]:
    """The values of --fix, each of its hyperparameter's type."""
    fixed: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        require(name in _KINDS, f"--fix NAME in {list(_KINDS)}", name, "fix one of these")
        try:
            fixed[name] = _KINDS[name](text)
        except ValueError:
            kind = "a whole number" if _KINDS[name] is int else "a number"
            raise InvalidInputError(
                f"{name} is {kind} must hold, but got {text!r}: give --fix {name}=NUMBER"
            ) from None
    return fixed


if __name__ == "__main__":
    sys.exit(main())
