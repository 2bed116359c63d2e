"""A façade that notes how it is called, and a made-up run directory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from distcel.cli import exit_status
from distcel.facade import fit as facade_fit
from distcel.facade import reproduce as facade_reproduce
from tests.cli.made_run import MadeRun


@pytest.fixture(autouse=True)
def _signal_handlers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command run in this process leaves pytest's own signal handlers in place."""
    monkeypatch.setattr(exit_status, "unwind_on_signals", lambda: None)


@dataclass
class Calls:
    """What the command line asked of the façade."""

    run_dir: Path
    fit: list[dict[str, Any]] = field(default_factory=list)
    reproduce: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    run_dir: Path

    @property
    def folder(self) -> Path:
        return self.run_dir


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """In place of the façade: it trains nothing, logs a line and leaves results.json."""
    calls = Calls(tmp_path / "made" / "run")
    logger = logging.getLogger("distcel.made")

    def leave_results() -> _Run:
        calls.run_dir.mkdir(parents=True, exist_ok=True)
        (calls.run_dir / "results.json").write_text('{\n  "n_trials": 1\n}\n')
        (calls.run_dir / "report.md").write_text("# the report\n\na table\n")
        logger.debug("cat: epoch 1")
        logger.info("learner 1/1 cat: 0 s")
        logger.error("one line of an error")
        return _Run(calls.run_dir)

    def fit(**options: Any) -> _Run:
        calls.fit.append(options)
        return leave_results()

    def reproduce(**options: Any) -> _Run:
        calls.reproduce.append(options)
        return leave_results()

    monkeypatch.setattr(facade_fit, "fit", fit)
    monkeypatch.setattr(facade_reproduce, "reproduce", reproduce)
    return calls


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path / "run")
