"""The paper's evaluation over several seeds: Tables 1 to 3, Figure 2 and further rules.

python launch/reproduce.py --seeds 3                                 digits, no download
python launch/reproduce.py --dataset cifar10 --data-dir DIR --preset paper --seeds 3
Each seed is one launch of cluster.py, to which every other flag is passed on, but for those that
make no sense here: --seed, --run-dir, --dry-run. The same command again carries on where it was
stopped.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from distcel.cli.exit_status import OneLineParser, exit_status
from distcel.cli.signals import Stopped, unwind_on_signals
from distcel.experiment.errors import RunFailedError, invalid, require, require_count
from distcel.experiment.loading import load_experiment
from launch import cluster

if TYPE_CHECKING:
    from distcel.evaluate.outcomes import SeedOutcome
    from distcel.execute.pool import WorkerPool
    from distcel.tracking.records import TrackedReproduction

_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec a thread's lock may be held for good


def parser() -> argparse.ArgumentParser:
    """The flags that cluster.py does not have."""
    flags = OneLineParser(
        prog="reproduce.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # --seed is not short for --seeds
    )
    flags.add_argument("--seeds", type=int, default=3, metavar="N", help="0 to N - 1 (3)")
    flags.add_argument(
        "--beyond",
        action="store_true",
        help="also train what the paper does not have: a learned vote of at most n/3, soft gating, "
        "straight-through top-k and single networks (off)",
    )
    flags.add_argument(
        "--gradients",
        action="store_true",
        help="also train the best trial's selection net with each gradient, one after another "
        "(off)",
    )
    flags.add_argument(
        "--results-file",
        type=Path,
        metavar="FILE",
        help="also put the report into this Markdown file, as one section, and sum up all that it "
        "has (none)",
    )
    flags.add_argument(
        "--results-dir",
        type=Path,
        metavar="DIR",
        help="(runs/reproduce-DATASET-PRESET[-SPLIT][-FIXED])",
    )
    return flags


def main() -> int:
    """Run; the exit status is what `exit_status` says, or cluster.py's."""
    arguments, passed_on = parser().parse_known_args()
    return exit_status(lambda: _reproduce(arguments, passed_on))


def _reproduce(arguments: argparse.Namespace, passed_on: list[str]) -> int:
    of_cluster = _parsed(passed_on)
    _require_consistent(arguments, of_cluster)

    # With what functions below import, before the launches: the code may be edited meanwhile.
    from distcel.evaluate import compare as comparison  # noqa: F401
    from distcel.execute.cluster import cluster_pool, connect
    from distcel.report import reproduction
    from distcel.report import results_page as results_file
    from distcel.search.prepare import run_title
    from distcel.tracking import mlflow as tracking  # noqa: F401

    for seed in range(arguments.seeds):
        status = _launch([sys.executable, cluster.__file__, *passed_on, "--seed", str(seed)])
        if status != 0:
            return status
    with connect(of_cluster.address):
        unwind_on_signals()
        pool = cluster_pool(of_cluster.gpus_per_worker)
        outcomes = [_outcome(arguments, passed_on, seed, pool) for seed in range(arguments.seeds)]
    options = cluster.options(of_cluster)
    name = "-".join([cluster.run_name(of_cluster), *of_cluster.fix])
    folder = arguments.results_dir or Path(f"runs/reproduce-{name}")
    split = of_cluster.selector_split
    title = run_title(of_cluster.dataset, of_cluster.preset, split, options.fixed)
    command = f"python launch/reproduce.py {_without_uri(sys.argv[1:])}"
    published = load_experiment(of_cluster.dataset, of_cluster.preset).published
    print(reproduction.write(folder, title, command, outcomes, published))
    print(f"{folder}/report.md, results.json, figure2 and pareto as .png and .svg")
    artifacts = options.run_dir.parent / "mlflow-artifacts"
    track = reproduction.tracked(title, of_cluster.dataset, outcomes, folder, artifacts)
    _log(options.mlflow_uri, track)
    if arguments.results_file:
        results_file.put_section(arguments.results_file, folder, name)
    return 0


def _require_consistent(arguments: argparse.Namespace, of_cluster: argparse.Namespace) -> None:
    require_count("--seeds", arguments.seeds)
    for flag, given in (("--seed", of_cluster.seed), ("--run-dir", of_cluster.run_dir)):
        require(not given, f"no {flag} beside --seeds", given, f"leave {flag} out")
    require(not of_cluster.dry_run, "no --dry-run beside --seeds", True, "ask cluster.py for it")
    learned = "vote=learned" in of_cluster.fix
    rule, remedy = "no --fix vote=learned beside --seeds", "--beyond has it, beside the paper's"
    require(not learned, rule, "both", remedy)
    held_out = of_cluster.selector_split == "holdout"
    rule, remedy = "no --beyond beside --selector-split holdout", "leave one of them out"
    # A single network would be trained on the holdout alone, which is no rival.
    require(not (arguments.beyond and held_out), rule, "both", remedy)
    _require_writable(arguments.results_dir, arguments.results_file)


def _require_writable(folder: Path | None, file: Path | None) -> None:
    """Before hours of training, not after them."""
    rule, remedy = "--results-dir and --results-file that can be written", "give another one"
    in_folder = file is None or file.parent.is_dir()
    require(in_folder, "--results-file in a folder that exists", str(file), remedy)
    try:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
        if file:
            TemporaryFile(dir=file.parent).close()
            if file.exists():
                file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise invalid(rule, repr(str(error)), remedy) from None


def _without_uri(words: Sequence[str]) -> str:
    """The words as a shell command, but for a tracking URI, which may hold a password."""
    uri = argparse.ArgumentParser(add_help=False)
    uri.add_argument("--mlflow-uri")
    return shlex.join(uri.parse_known_args(words)[1])


def _log(mlflow_uri: str, reproduction: TrackedReproduction) -> None:
    from distcel.tracking.mlflow import log_reproduction

    try:
        log_reproduction(mlflow_uri, reproduction)
    except Exception as error:  # its message may hold the URI, and that a password
        print(f"MLflow failed ({type(error).__name__}): the same command again tells it")


def _launch(command: list[str]) -> int:
    """Run a launch to its end; a signal that stops this process stops it as well."""
    print(f"$ {_without_uri(command)}")
    # Out of reach of the terminal's Ctrl-C: whatever stops this process stops the launch once.
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_end_with_parent)
    try:
        return process.wait()
    except Stopped:
        process.terminate()
        process.wait()
        raise


def _end_with_parent() -> None:
    """Have Linux send SIGTERM to this process when its parent dies, whatever kills it.

    It would go on and keep its run directory locked, and the same command could not carry on.
    """
    pr_set_pdeathsig = 1
    _LIBC.prctl(pr_set_pdeathsig, signal.SIGTERM)


def _outcome(
    arguments: argparse.Namespace, passed_on: list[str], seed: int, pool: WorkerPool
) -> SeedOutcome:
    """What one seed's run directory holds, with what is measured beside it."""
    from distcel.evaluate.compare import compare_run
    from distcel.evaluate.outcomes import SeedOutcome
    from distcel.search.prepare import prepare
    from distcel.search.trials import TrialStore, best_trial
    from distcel.storage.lock import run_lock

    of_cluster = _parsed([*passed_on, "--seed", str(seed)])
    options = cluster.options(of_cluster)
    with run_lock(options.run_dir):
        prepared = prepare(load_experiment(of_cluster.dataset, of_cluster.preset), options)
        results = json.loads((options.run_dir / "results.json").read_text())
        if not prepared.search_folder.is_dir():
            reason = "the code was edited before its launch: run the same command again"
            raise RunFailedError(f"{options.run_dir}: {reason}")
        best = best_trial(TrialStore(prepared.search_folder / "trials").snapshot())
        asked_for = (results["fixed"], results["best"])
        if asked_for != (dict(options.fixed), best.params.as_dict()):
            reason = "another launch has replaced its results: run the same command again"
            raise RunFailedError(f"{options.run_dir}: {reason}")
        return SeedOutcome(
            results, compare_run(prepared, pool, arguments.beyond, arguments.gradients)
        )


def _parsed(passed_on: list[str]) -> argparse.Namespace:
    return cluster.parser().parse_args(passed_on)


if __name__ == "__main__":
    sys.exit(main())
