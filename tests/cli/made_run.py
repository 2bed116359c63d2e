"""A run directory in any state, made without training anything."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcel.storage.files import write_record

SEARCH = "5ea7c4"
NAMES = ("ant", "bee", "ant+bee")
KEYS = ("aa01", "aa02", "aa03")
PARAMS = {"k": 2, "epsilon": 0.25, "m": 7, "lr": 1.0, "gradient": "exact", "vote": "sum"}


@dataclass
class MadeRun:
    """Three base learners of two classes and a search of four trials, as far as they are made."""

    path: Path

    def begin(self, selector_split: str = "train", copies: int = 0) -> None:
        """What a launch writes before it trains anything."""
        self.write_json("run.json", self.facts(selector_split, copies))
        self.lock()

    def facts(self, selector_split: str = "train", copies: int = 0) -> dict[str, Any]:
        pairs = zip(NAMES, KEYS, strict=True)
        return {
            "dataset": "folder",
            "preset": "smoke",
            "seed": 3,
            "selector_split": selector_split,
            "fixed": {"k": 2},
            "num_samples": 4,
            "search_key": SEARCH,
            "class_names": ["ant", "bee"],
            "learners": [{"name": name, "key": key} for name, key in pairs],
            "copies": [[f"cc{fold}{i}" for i in range(3)] for fold in range(copies)],
        }

    def lock(self, pid: int = 2**22 + 1, host: str | None = None) -> None:
        """By default of a launch that has ended: no process has such a number."""
        holder = {"pid": pid, "host": host or socket.gethostname(), "since": "2026-11-28T20:00:00"}
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "lock").write_text(json.dumps(holder))

    def lock_now(self) -> Any:
        """As this process does, which holds the file open until it is closed."""
        self.lock(os.getpid())
        return (self.path / "lock").open()

    def learner(self, key: str, *splits: str, name: str = "ant") -> None:
        for split in splits or ("train", "valid", "test"):
            self._touch(f"learners/{split}/{name}-{key}.arrow")
        self._touch(f"learners/weights/{name}-{key}.safetensors")

    def unfinished(self, key: str) -> None:
        self._touch(f"learners/unfinished/ant-{key}.state")

    def trial(self, number: int, state: str, accuracy: float = 0.5, reason: str = "") -> Path:
        epochs = [] if state == "RUNNING" else [{"epoch": 1, "valid_accuracy": accuracy}]
        record = {"number": number, "params": PARAMS, "state": state, "epochs": epochs}
        path = self.path / "search" / SEARCH / "trials" / f"{number:05d}.json"
        write_record(path, {**record, "reason": reason})
        return path

    def close(self, asked: int = 4) -> Path:
        path = self.path / "search" / SEARCH / "trials" / "closed"
        write_record(path, {"closings": [{"asked": asked, "finished": 4, "next_number": 4}]})
        return path

    def refit(self, number: int) -> None:
        self._touch(f"search/{SEARCH}/refit/refit-of-trial-{number}-abc.safetensors")

    def results(self, n_trials: int = 4, **other: Any) -> None:
        chosen = {**self.facts(), **other}
        chosen |= {"n_trials": n_trials, "n_learners": 3, "ended": "2026-11-28T21:00:00+00:00"}
        self.write_json("results.json", {**chosen, "accuracy": {"e2e_cel": 0.75}})

    def write_json(self, name: str, content: object) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(json.dumps(content))

    def _touch(self, name: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content")
