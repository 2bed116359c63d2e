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
from distcel.experiment.errors import require

SUMMARY = "show what of a run is done, running and failed"
_MARKS = ("run.json", "lock", "id", "learners", "search")  # every launch leaves one of these


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `status`."""
    flags.add_argument("folder", type=Path, metavar="RUN", help="a run directory")
    flags.add_argument("--json", action="store_true", help="as one JSON object (off)")


def run(arguments: argparse.Namespace) -> int:
    """Print the status; returns the exit status.

    Raises:
        InvalidInputError: this is not a run directory.
    """
    status = read_status(arguments.folder)
    put(json.dumps(status, indent=2) if arguments.json else "\n".join(lines(status)))
    return 0


def read_status(run_dir: Path) -> dict[str, Any]:
    """The status as a JSON object: what is done, running and failed.

    Where `run.json` is missing or damaged, the learners are counted by their files alone and the
    search is the one that was written to last.

    Raises:
        InvalidInputError: this is not a run directory.
    """
    from distcel.cli.run_status import RunReader, choices

    marked = any((run_dir / name).exists() for name in _MARKS)
    require(marked, "a run directory", str(run_dir), "give the --run-dir of a search")
    reader = RunReader(run_dir)
    facts, results = reader.facts(), reader.json_object("results.json")
    folder = reader.search_folder(facts)
    trials = reader.trials(folder, facts)
    learners, copies = reader.learners(facts, results)
    num_samples, closed_at = trials["asked"], reader.closed_at(folder)
    n_ended = trials["complete"] + len(trials["failed"])
    is_searched = closed_at is not None and (num_samples is None or num_samples <= closed_at)
    is_searched = is_searched or (num_samples is not None and n_ended >= num_samples)
    status = {
        "run_dir": str(run_dir),
        "what": choices(facts) or choices(results),
        "launch": reader.launch(),
        "learners": learners,
        "copies": copies,
        "trials": trials,
        "is_searched": is_searched,
        "refit": reader.is_refitted(folder, trials["best"]),
        "results": reader.results(facts, results, n_ended),
        "damaged": reader.damaged,
    }
    return {"stage": _stage(status), **status}


def _stage(status: dict[str, Any]) -> str:
    """The first stage that is not done."""
    if status["results"] and status["results"]["current"]:
        return "done"
    trials = status["trials"]
    begun = trials["complete"] + trials["running"] + len(trials["failed"]) > 0
    for name in ("learners", "copies"):
        jobs = status[name]
        if jobs and (not begun if jobs["n"] is None else jobs["done"] < jobs["n"]):
            return "base learners" if name == "learners" else "copies"
    if not status["is_searched"]:
        return "search"
    return "test" if status["refit"] else "refit"


def lines(status: dict[str, Any]) -> list[str]:
    """The status in words, as `read_status` returns it."""
    found = [
        f"{status['run_dir']}: {_what(status['what'])}",
        f"stage: {status['stage']}, {_launch(status['launch'])}",
        f"base learners: {_counted(status['learners'])}",
    ]
    if status["copies"]:
        found.append(f"copies: {_counted(status['copies'])}")
    found += _trials(status["trials"], status["launch"]["running"])
    found.append(f"refit: {'done' if status['refit'] else 'not yet'}")
    found.append(f"results: {_results(status['results'])}")
    return found + [f"damaged: {damage}" for damage in status["damaged"]]


def _what(what: dict[str, Any] | None) -> str:
    if what is None:
        return "data set and preset are not known"
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
    num_samples = "?" if trials["asked"] is None else trials["asked"]
    others = {
        "interrupted" if running is False else "running": trials["running"],
        "failed": len(trials["failed"]),
    }
    counts = "".join(f", {count} {state}" for state, count in others.items() if count)
    best = trials["best"]
    found = [f"trials: {trials['complete']} of {num_samples} complete{counts}"]
    found += [f"  trial {t['trial']} failed: {t['reason']}" for t in trials["failed"]]
    return [*found, f"best so far: {_best(best) if best else 'none'}"]


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
    return f"written {results['ended']}{measured}{earlier}"
