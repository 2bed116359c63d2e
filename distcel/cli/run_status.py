"""Reads a run directory in any state, and changes nothing in it.

The layout of the directory is that of docs/run-directory.md. The modules that write it need torch,
so none of them is imported.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distcel.storage.files import DamagedFileError, read_record

_WHAT = ("dataset", "preset", "seed", "selector_split", "fixed")
_STATES = ("RUNNING", "COMPLETE", "FAILED")


@dataclass
class RunReader:
    """Reads a run directory and notes which of its files are damaged."""

    run_dir: Path
    damaged: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in sorted(self.run_dir.rglob("*.damaged")):
            self.damaged.append(f"{path.relative_to(self.run_dir)}, put aside")

    def _note(self, path: Path, why: str) -> None:
        self.damaged.append(f"{path.relative_to(self.run_dir)}: {why}")

    def json_object(self, name: str) -> dict[str, Any] | None:
        """The content of a JSON file; None if it is missing or damaged."""
        path = self.run_dir / name
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._note(path, f"it cannot be read ({error})")
            return None
        if isinstance(content, dict):
            return content
        self._note(path, "it is not a JSON object")
        return None

    def facts(self) -> dict[str, Any] | None:
        """The description of the last launch, `run.json`; None if it is missing or damaged."""
        facts = self.json_object("run.json")
        if facts is None or _are_facts(facts):
            return facts
        self._note(self.run_dir / "run.json", "it does not describe a launch")
        return None

    def launch(self) -> dict[str, Any]:
        """The last launch, and whether it runs now; None where that is not known."""
        path = self.run_dir / "lock"
        unknown = {"running": False, "pid": None, "host": None, "since": None}
        if not path.is_file() or not path.stat().st_size:
            return unknown
        holder = self.json_object("lock")
        if holder is None or type(holder.get("pid")) is not int:
            return {**unknown, "running": None}
        here = holder.get("host") == socket.gethostname()
        running = _holds(holder["pid"], path) if here else None
        return {"running": running, **{name: holder.get(name) for name in ("pid", "host", "since")}}

    def learners(
        self, facts: dict[str, Any] | None, results: dict[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Counts of the base learners, and of their copies for each fold if there are any."""
        weights, test, held_out = (self._keys(name) for name in ("weights", "test", "holdout"))
        begun = self._keys("unfinished")
        if facts is None:
            done = (weights & held_out) - test
            n = results.get("n_learners") if results else None
            own = _counted(weights & test, begun, n if type(n) is int else None)
            return own, _counted(done, set(), None) if done else None
        fitted_on = held_out if facts["selector_split"] == "holdout" else self._keys("train")
        done = weights & fitted_on & self._keys("valid") & test
        keys = {learner["key"] for learner in facts["learners"]}
        if facts.get("predictions"):  # predictors that were given are not trained here
            return _counted(keys, set(), len(keys)), None
        own = _counted(done & keys, begun & keys, len(keys))
        keys = {key for fold in facts["copies"] for key in fold}
        done = weights & held_out & keys
        return own, _counted(done, begun & keys, len(keys)) if keys else None

    def _keys(self, name: str) -> set[str]:
        """The keys of the learners that have a file in the folder; its content is not checked."""
        paths = (self.run_dir / "learners" / name).glob("*-*")
        names = (re.fullmatch(r".+-([0-9a-f]+)\.(arrow|safetensors|state)", p.name) for p in paths)
        return {found[1] for found in names if found}

    def search_folder(self, facts: dict[str, Any] | None) -> Path | None:
        """The folder of the last launch's search; without run.json, the one written to last."""
        searches = self.run_dir / "search"
        if facts is not None:
            return searches / str(facts["search_key"])
        folders = [path for path in searches.glob("*/trials") if path.is_dir()]
        return max(folders, key=lambda path: path.stat().st_mtime).parent if folders else None

    def trials(self, folder: Path | None, facts: dict[str, Any] | None) -> dict[str, Any]:
        """Counts of the search's trials by state, and the trial that is best on valid."""
        paths = sorted((folder / "trials").glob("[0-9]*.json")) if folder else []
        records = [record for record in map(self._trial, paths) if record]
        by_state = {state: [r for r in records if r["state"] == state] for state in _STATES}
        complete = by_state["COMPLETE"]
        best = max(complete, key=lambda r: (r["valid_accuracy"], -r["trial"]), default=None)
        names = ("trial", "valid_accuracy", "params")
        return {
            "asked": facts["num_samples"] if facts else None,
            "complete": len(complete),
            "running": len(by_state["RUNNING"]),
            "failed": [{name: r[name] for name in ("trial", "reason")} for r in by_state["FAILED"]],
            "best": {name: best[name] for name in names} if best else None,
        }

    def _trial(self, path: Path) -> dict[str, Any] | None:
        """A trial's record; None if it is damaged, or has just been put aside by a launch."""
        try:
            content = read_record(path)
            epochs = content["epochs"]
            record = {
                "trial": int(path.stem),
                "state": content["state"],
                "reason": str(content["reason"]),
                "params": dict(content["params"]),
                "valid_accuracy": float(epochs[-1]["valid_accuracy"]) if epochs else None,
            }
            whole = record["state"] in _STATES and (epochs or record["state"] != "COMPLETE")
            if whole and content["number"] == record["trial"]:
                return record
            self._note(path, "it is not this trial")
        except FileNotFoundError:
            pass
        except DamagedFileError as error:
            self._note(path, error.why)
        except (KeyError, TypeError, ValueError, IndexError, OSError):
            self._note(path, "it is not this trial")
        return None

    def closed_at(self, folder: Path | None) -> int | None:
        """The `--num-samples` with which the search was closed; None while it is open."""
        path = folder / "trials" / "closed" if folder else None
        if path is None or not path.is_file():
            return None
        try:
            return int(read_record(path)["closings"][-1]["asked"])
        except DamagedFileError as error:
            self._note(path, error.why)
        except (KeyError, TypeError, ValueError, IndexError):
            self._note(path, "it has no closings of the search")
        return None

    def results(
        self, facts: dict[str, Any] | None, results: dict[str, Any] | None, n_ended: int
    ) -> dict[str, Any] | None:
        """When results.json was written, and whether it has the last launch's trials."""
        if results is None:
            return None
        same = facts is None or choices(facts) == choices(results)
        current = same and results.get("n_trials") == n_ended
        e2e_cel = _number(results.get("accuracy"), "e2e_cel")
        return {"current": current, "ended": str(results.get("ended")), "e2e_cel": e2e_cel}

    def is_refitted(self, folder: Path | None, best: dict[str, Any] | None) -> bool:
        """Whether the best trial has been trained for all its epochs."""
        if folder is None or best is None:
            return False
        return any((folder / "refit").glob(f"refit-of-trial-{best['trial']}-*.safetensors"))


def _are_facts(facts: dict[str, Any]) -> bool:
    """Whether the fields of run.json that are used here are what a launch writes."""
    learners, copies, key = (facts.get(name) for name in ("learners", "copies", "search_key"))
    return (
        choices(facts) is not None
        and type(facts.get("num_samples")) is int
        and isinstance(key, str)
        and re.fullmatch(r"\w+", key) is not None
        and isinstance(learners, list)
        and all(isinstance(one, dict) and isinstance(one.get("key"), str) for one in learners)
        and isinstance(copies, list)
        and all(isinstance(fold, list) and _are_texts(fold) for fold in copies)
    )


def _are_texts(values: Sequence[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def choices(content: dict[str, Any] | None) -> dict[str, Any] | None:
    """Data set, preset, seed, selector split and fixed values, from run.json or results.json."""
    if content is None or any(name not in content for name in _WHAT):
        return None
    chosen = {name: content[name] for name in _WHAT}
    return chosen if isinstance(chosen["fixed"], dict) else None


def _counted(done: set[str], begun: set[str], n: int | None) -> dict[str, Any]:
    return {"done": len(done), "n": n, "unfinished": len(begun - done)}


def _number(content: object, name: str) -> float | None:
    value = content.get(name) if isinstance(content, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _holds(pid: int, lock: Path) -> bool:
    """Whether the process is alive and has the lock open.

    This does not try to take the lock, which could make a launch that starts just then fail.
    """
    opened = Path(f"/proc/{pid}/fd")
    try:
        if not opened.is_dir():
            os.kill(pid, 0)  # raises where there is no such process
            return not Path("/proc/self/fd").is_dir()  # without /proc, it may have the lock open
        own = lock.stat()
        return any(os.path.samestat(own, found) for found in _stats(opened))
    except PermissionError:  # another user's process, alive
        return True
    except (OSError, OverflowError):
        return False


def _stats(folder: Path) -> list[os.stat_result]:
    """The status of each file that a process has open; some may be closed meanwhile."""
    found = []
    for path in folder.iterdir():
        try:
            found.append(path.stat())
        except FileNotFoundError:
            continue
    return found
