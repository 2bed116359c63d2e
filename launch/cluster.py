"""Train the base learners, search the selection net's hyperparameters, report the test split.

python launch/cluster.py                                       1,797 digits, no download
python launch/cluster.py --dataset fer2013 --data-dir DIR      your copy of a data set
The same command again carries on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distcel.cli.exit_status import OneLineParser, exit_status
from distcel.cli.signals import unwind_on_signals
from distcel.experiment.errors import (
    invalid,
    require,
    require_choice,
    require_count,
    require_positive,
)
from distcel.experiment.loading import DATASETS, PRESET_NAMES, load_experiment
from distcel.experiment.types import SelectorSplit

if TYPE_CHECKING:
    from distcel.experiment.types import Experiment
    from distcel.search.prepare import Options

_KINDS = {"k": int, "epsilon": float, "m": int, "lr": float, "gradient": str, "vote": str}


def parser() -> argparse.ArgumentParser:
    """The command line; nothing heavy is imported for `--help`."""
    flags = OneLineParser(
        prog="cluster.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = flags.add_argument
    add("--dataset", default="digits", metavar="NAME", help=f"{', '.join(DATASETS)} (digits)")
    add("--data-dir", type=Path, default=Path("data"), metavar="DIR", help="where it is (data)")
    add("--run-dir", type=Path, metavar="DIR", help="results (runs/DATASET-PRESET[-SPLIT]-seedN)")
    add(
        "--preset",
        default="quick",
        metavar="NAME",
        help=f"{', '.join(PRESET_NAMES)}: seconds, minutes, the published recipe (quick)",
    )
    add("--num-samples", type=int, metavar="N", help="trials in all (the preset's)")
    add("--time-budget", type=float, metavar="SECONDS", help="limit of a launch's search (none)")
    add("--seed", type=int, default=0, metavar="N", help="of splits, networks and search (0)")
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
        "learned, where each base learner is heard through its own matrix; repeatable (vote=sum)",
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
    """Run; the exit status is what `exit_status` says."""
    arguments = parser().parse_args()
    return exit_status(lambda: _launch(arguments))


def _launch(arguments: argparse.Namespace) -> int:
    started = time.monotonic()
    if arguments.num_samples is not None:
        require_count("--num-samples", arguments.num_samples)
    if arguments.time_budget is not None:
        require_positive("--time-budget", arguments.time_budget)
    require_positive("--gpus-per-worker", arguments.gpus_per_worker)
    require(0 <= arguments.seed < 2**31, "0 <= --seed < 2^31", arguments.seed, "give such a seed")
    require_choice("--selector-split", arguments.selector_split, SelectorSplit)
    _require_tracking_uri(arguments.mlflow_uri)
    direct = not (arguments.address or "").startswith("ray://")  # whose tasks cannot stream
    rule, remedy = (
        "--address HOST:PORT of a cluster's head",
        "give its GCS port, without ray://",
    )
    require(direct, rule, arguments.address, remedy)
    fixed = _fixed(arguments.fix)
    experiment = load_experiment(arguments.dataset, arguments.preset)
    if arguments.dry_run:
        return _dry_run(arguments, experiment, fixed)

    from distcel import pipeline
    from distcel.execute.cluster import cluster_pool, connect
    from distcel.search.prepare import prepare
    from distcel.storage.files import remove_partial_files
    from distcel.storage.lock import run_lock

    chosen = options(arguments)
    with run_lock(chosen.run_dir):
        remove_partial_files(chosen.run_dir)
        prepared = prepare(experiment, chosen)
        with connect(arguments.address) as dashboard:
            unwind_on_signals()  # ray.init puts a handler of its own in place
            pool = cluster_pool(arguments.gpus_per_worker)
            print(f"Ray: {pool.size} workers at once, dashboard {dashboard}")
            pipeline.run(prepared, pool)
    print(f"{chosen.run_dir}/results.json after {time.monotonic() - started:.0f} s")
    print(f"compare runs: {_how_to_compare(chosen.mlflow_uri)}")
    return 0


def _how_to_compare(mlflow_uri: str) -> str:
    if not mlflow_uri.startswith("sqlite"):  # which alone never holds a password
        return f"{urlsplit(mlflow_uri).hostname}, the MLflow server"
    ui = f"{Path(sys.executable).with_name('mlflow')} ui --workers 1"
    return f"{ui} --backend-store-uri {shlex.quote(mlflow_uri)}"


def run_name(arguments: argparse.Namespace) -> str:
    """DATASET-PRESET, and the selector split where it is not train."""
    name = f"{arguments.dataset}-{arguments.preset}"
    split = arguments.selector_split
    return name if split == "train" else f"{name}-{split}"


def options(arguments: argparse.Namespace) -> Options:
    """What the parsed command line chooses."""
    from distcel.search.prepare import Options

    default = f"runs/{run_name(arguments)}-seed{arguments.seed}"
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
        fixed=_fixed(arguments.fix),
        selector_split=arguments.selector_split,
    )


def _dry_run(arguments: argparse.Namespace, experiment: Experiment, fixed: dict[str, Any]) -> int:
    import torch

    from distcel.data.splits import draw_splits
    from distcel.execute.pool import WorkerPool
    from distcel.experiment.types import first_point, learner_specs
    from distcel.train.estimate import count_samples, describe

    class_names, pools = draw_splits(experiment, arguments.data_dir, arguments.seed)
    specs = learner_specs(class_names)
    point = first_point(experiment, len(specs), fixed)
    labels, split, seed = pools["train"].labels, arguments.selector_split, arguments.seed
    counts = count_samples(labels, specs, experiment, split, seed)
    num_samples = arguments.num_samples or experiment.num_samples
    here = {"CPU": len(os.sched_getaffinity(0)), "GPU": torch.cuda.device_count()}
    workers = WorkerPool.on_nodes([here], arguments.gpus_per_worker)
    size = workers.size
    print(describe(experiment, class_names, pools, point, num_samples, size, counts, fixed))
    return 0


def _require_tracking_uri(uri: str | None) -> None:
    schemes = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
    known = uri is None or uri.split(":")[0].split("+")[0] in schemes
    # The URI itself is not repeated: it may hold a password.
    remedy = "give sqlite:////absolute/path.db or http://host:port"
    require(known, f"--mlflow-uri beginning with one of {schemes}", "another one", remedy)
    try:
        urlsplit(uri or "")
    except ValueError:
        raise invalid("--mlflow-uri that is a URI", "something else", remedy) from None


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
            raise invalid(f"{kind} as {name}", repr(text), f"give --fix {name}=NUMBER") from None
    return fixed


if __name__ == "__main__":
    sys.exit(main())
