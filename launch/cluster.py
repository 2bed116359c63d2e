"""Train the base learners, search the selection net's hyperparameters, report the test split.

python launch/cluster.py                          # 1,797 digits, no download, two minutes
python launch/cluster.py --dataset fer2013 --data-dir DIR
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from distcel.types import InvalidInputError, require, require_count, require_positive
from search_spaces import DATASETS, PRESET_NAMES, load_experiment


def parser() -> argparse.ArgumentParser:
    """The command line; nothing heavy is imported for `--help`."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--dataset", default="digits", metavar="NAME", help=f"{', '.join(DATASETS)} (digits)")
    add("--preset", default="quick", metavar="NAME", help=f"{', '.join(PRESET_NAMES)} (quick)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="the data (data)")
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/DATASET-PRESET-seedSEED)")
    add("--seed", type=int, default=0, metavar="N", help="seed of everything (0)")
    add("--num-samples", type=int, metavar="N", help="trials in all (the preset's)")
    add("--time-budget", type=float, metavar="SECONDS", help="limit of the search (none)")
    add(
        "--fix",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="do not search k, epsilon, m, lr or gradient but fix it; repeatable",
    )
    add("--address", metavar="ADDRESS", help="join this Ray cluster (start one here)")
    add(
        "--gpus-per-worker",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="of a GPU, for each learner or trial, where there are GPUs (0.25)",
    )
    add("--mlflow-uri", metavar="URI", help="tracking server (mlflow.db beside the run directory)")
    return flags


def _fixed(pairs: list[str]) -> dict[str, Any]:
    fixed: dict[str, Any] = {}
    kinds = {"k": int, "m": int, "epsilon": float, "lr": float, "gradient": str}
    for pair in pairs:
        name, _, text = pair.partition("=")
        require(name in kinds, f"--fix NAME in {sorted(kinds)}", name, "fix one of these")
        try:
            fixed[name] = kinds[name](text)
        except ValueError:
            kind = kinds[name].__name__
            raise InvalidInputError(
                f"--fix {name}=VALUE with a VALUE of type {kind} must hold, but got {text!r}: "
                f"give one"
            ) from None
    return fixed


def main() -> int:
    """Run; the exit status is 2 for unusable input."""
    arguments = parser().parse_args()
    try:
        return _launch(arguments)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _launch(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    for name in ("num_samples", "time_budget", "gpus_per_worker"):
        value = getattr(arguments, name)
        if value is not None:
            check = require_count if name == "num_samples" else require_positive
            check("--" + name.replace("_", "-"), value)
    fixed = _fixed(arguments.fix)
    experiment = load_experiment(arguments.dataset, arguments.preset)
    default = f"runs/{arguments.dataset}-{arguments.preset}-seed{arguments.seed}"
    run_dir = (arguments.run_dir or Path(default)).absolute()
    uri = arguments.mlflow_uri or f"sqlite:///{run_dir.parent / 'mlflow.db'}"

    from distcel import pipeline

    options = pipeline.Options(
        arguments.preset,
        arguments.data_dir,
        run_dir,
        arguments.seed,
        arguments.num_samples,
        arguments.time_budget,
        uri,
        fixed,
    )
    prepared = pipeline.prepare(experiment, options)

    from launch.ray_cluster import connect

    with connect(arguments.address) as dashboard:
        from distcel.fleet import ActorPool

        pool = ActorPool.on_cluster(arguments.gpus_per_worker)
        print(f"Ray: {pool.size} workers, dashboard {dashboard}")
        pipeline.run(prepared, pool)
    print(f"results: {run_dir}/results.json, {time.monotonic() - started:.0f} s in all")
    print(f"compare runs: mlflow ui --backend-store-uri {uri}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
