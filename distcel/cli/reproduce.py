"""The paper's evaluation over several seeds: Tables 1 to 3, Figure 2 and further rules.

distcel reproduce --seeds 3                                 digits, no download
distcel reproduce --dataset cifar10 --data-dir DIR --preset paper --seeds 3
Each seed is one search. The same command again continues where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from distcel.cli.flags import (
    add_data_flags,
    add_output_flags,
    add_search_flags,
    add_worker_flags,
    fit_options,
    fixed_values,
    workers,
)
from distcel.cli.output import run_shown
from distcel.cli.search import put_result
from distcel.experiment.errors import invalid, require_count
from distcel.experiment.loading import load_experiment
from distcel.search.options import require_comparable

logger = logging.getLogger(__name__)

SUMMARY = "repeat the paper's evaluation over several seeds"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `reproduce`: its own, and those of `search` but for seed and directory."""
    add = flags.add_argument
    add("--seeds", type=int, default=3, metavar="N", help="0 to N - 1 (3)")
    add(
        "--beyond",
        action="store_true",
        help="also train what the paper does not have: a learned vote of at most n/3, soft gating, "
        "straight-through top-k, a single network trained for as long as all networks of the "
        "ensemble, and e2e-CEL that starts from a brief one (off)",
    )
    add(
        "--gradients",
        action="store_true",
        help="also train the best trial's selection net with each gradient, one after another "
        "(off)",
    )
    add(
        "--results-dir",
        type=Path,
        metavar="DIR",
        help="report and figures (runs/reproduce-DATASET-PRESET[-SPLIT][-FIXED])",
    )
    add(
        "--results-pages",
        type=Path,
        metavar="DIR",
        help="also put the report into this folder of pages, docs/results say, and lay its index "
        "out anew (none)",
    )
    add_data_flags(flags)
    add_search_flags(flags)
    add_worker_flags(flags)
    add_output_flags(flags)


def run(arguments: argparse.Namespace) -> int:
    """Reproduce; returns the exit status.

    Raises:
        InvalidInputError: a flag's value is unusable.
        RunFailedError: a search failed.
    """
    _require_consistent(arguments)
    options = fit_options(arguments)

    from distcel.facade.reproduce import reproduce

    with run_shown(arguments):
        done = reproduce(
            seeds=arguments.seeds,
            beyond=arguments.beyond,
            gradients=arguments.gradients,
            results_dir=arguments.results_dir,
            results_pages=arguments.results_pages,
            workers=workers(arguments),
            command=without_uri(arguments.typed),
            **options,
        )
    files = "report.md, report.html, results.json, figure2 and pareto as .png and .svg"
    logger.info("%s/%s", done.folder, files)
    put_result(arguments, done.folder)
    return 0


def without_uri(words: Sequence[str]) -> str:
    """The words as a shell command, without a tracking URI, which may contain a password."""
    uri = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    uri.add_argument("--mlflow-uri")
    return shlex.join(uri.parse_known_args(words)[1])


def _require_consistent(arguments: argparse.Namespace) -> None:
    require_count("--seeds", arguments.seeds)
    fixed = fixed_values(arguments.fix)
    experiment = load_experiment(arguments.dataset, arguments.preset, arguments.config)
    require_comparable(experiment, arguments.selector_split, fixed, arguments.beyond)
    for flag in ("--results-dir", "--results-pages"):
        folder = getattr(arguments, flag[2:].replace("-", "_"))
        if folder is not None:
            _require_writable(flag, folder)


def _require_writable(flag: str, folder: Path) -> None:
    """Raise InvalidInputError now, not after hours of training, if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        rule = f"{flag} that can be written"
        raise invalid(rule, repr(str(error)), "give another one") from None
