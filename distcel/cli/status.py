"""Show from a run directory's files alone what is done, running and failed.

distcel status runs/digits-quick-seed0
It reads only. Records are checked against their digests; predictions and weights, which may be
gigabytes, are checked by the next launch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from distcel.cli.output import put

SUMMARY = "show what of a run is done, running and failed"


def add_flags(flags: argparse.ArgumentParser) -> None:
    """What is shown."""
    flags.add_argument("folder", type=Path, metavar="RUN", help="a run directory")
    flags.add_argument("--json", action="store_true", help="as one JSON object (off)")


def run(arguments: argparse.Namespace) -> int:
    """Print the status; returns the exit status.

    Raises:
        InvalidInputError: it is no run directory.
    """
    from distcel.cli.run_status import read_status

    status = read_status(arguments.folder)
    put(json.dumps(status, indent=2) if arguments.json else "\n".join(lines(status)))
    return 0


def lines(status: dict[str, Any]) -> list[str]:
    """The status in words, as `read_status` returns it."""
    return [
        f"{status['run_dir']}: {_what(status['what'])}",
        f"stage: {status['stage']}, {_launch(status['launch'])}",
        f"base learners: {_counted(status['learners'])}",
        *([f"copies: {_counted(status['copies'])}"] if status["copies"] else []),
        *_trials(status["trials"], status["launch"]["running"]),
        f"refit: {'done' if status['refit'] else 'not yet'}",
        f"results: {_results(status['results'])}",
        *(f"damaged: {damage}" for damage in status["damaged"]),
    ]


def _what(what: dict[str, Any] | None) -> str:
    if what is None:
        return "what it is of is not known"
    split = "" if what["selector_split"] == "train" else f", {what['selector_split']}"
    fixed = "".join(f", {name} = {value}" for name, value in what["fixed"].items())
    return f"{what['dataset']}, preset {what['preset']}{split}{fixed}, seed {what['seed']}"


def _launch(launch: dict[str, Any]) -> str:
    holder = f"pid {launch['pid']} on {launch['host']} since {launch['since']}"
    if launch["pid"] is None:
        return "no launch is known"
    if launch["running"] is None:
        return f"held by {holder}, if that still runs"
    if launch["running"]:
        return f"running: {holder}"
    return f"not running: the last launch was {holder}"


def _counted(jobs: dict[str, Any]) -> str:
    n = "?" if jobs["n"] is None else jobs["n"]
    begun = f", {jobs['unfinished']} unfinished with a kept state" if jobs["unfinished"] else ""
    return f"{jobs['done']} of {n} done{begun}"


def _trials(trials: dict[str, Any], running: bool | None) -> list[str]:
    asked = "?" if trials["asked"] is None else trials["asked"]
    others = {
        "interrupted" if running is False else "running": trials["running"],
        "failed": len(trials["failed"]),
    }
    counts = "".join(f", {count} {state}" for state, count in others.items() if count)
    best = trials["best"]
    return [
        f"trials: {trials['complete']} of {asked} complete{counts}",
        *(f"  trial {t['trial']} failed: {t['reason']}" for t in trials["failed"]),
        f"best so far: {_best(best)}" if best else "best so far: none",
    ]


def _best(best: dict[str, Any]) -> str:
    point = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in best["params"].items()
    )
    return f"trial {best['trial']}, valid {best['valid_accuracy']:.4f}, {point}"


def _results(results: dict[str, Any] | None) -> str:
    if results is None:
        return "not yet"
    accuracy = results["e2e_cel"]
    measured = "" if accuracy is None else f", e2e-CEL {accuracy:.4f} on test"
    earlier = "" if results["current"] else ", by an earlier launch"
    return f"of {results['ended']}{measured}{earlier}"
