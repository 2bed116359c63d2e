"""Networks that an executor trains on a TrainingTask, each kept in a file of its own.

`FOLDER/<title>-<key>.safetensors` is a rule's network; `.failed` has the reason if its training
diverged. During a training, `.state` has the state from which it can continue.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from distcel.data.splits import Split
from distcel.execute.jobs import Executor, Failed, Progress, Work
from distcel.execute.progress import StageBegan, with_event
from distcel.storage.files import content_key, is_intact, read_sealed, write_checked, write_sealed
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask

logger = logging.getLogger(__name__)

# Part of every kept network's key. Raise it with any change that trains a rule to other numbers
# from the same task and torch; code that trials use too has its version in train/selection.
CACHE_VERSION = 1


class TrainableRule(Protocol):
    """A rule that trains a network; a frozen dataclass whose fields can be written as JSON."""

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        """Train; yields progress, with a state to continue from or without, and last the network.

        Raises:
            DivergedError: a loss or a weight became NaN or infinite.
        """
        ...

    def predict(self, trained: TrainedNetwork, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities for every sample of the split, shape (S, C)."""
        ...


def train_missing(
    rules: Mapping[str, TrainableRule],
    shared: Any,
    executor: Executor,
    folder: Path,
    at_once: int | None = None,
    stage: str = "rules",
) -> dict[str, TrainedNetwork | Failed]:
    """Train the rules that have no intact kept network; returns the networks of all rules.

    Args:
        rules: the rules by title, the longest training first.
        shared: the TrainingTask, as `executor.share` returned it.
        executor: runs the trainings.
        folder: where the networks are kept; its name has to identify the task.
        at_once: the largest number of trainings at once; None is one for each worker.
        stage: what the trainings are called as a stage of the run.

    Returns:
        dict: the network, or why there is none, by title.

    Raises:
        RunFailedError: workers were lost repeatedly with the same rule; the other rules are trained
            and kept first.
    """
    jobs = [
        _RuleJob(title, rule, folder / _file_name(title, rule)) for title, rule in rules.items()
    ]
    missing = [job for job in jobs if not job.is_kept()]
    n, kept = len(jobs), len(jobs) - len(missing)
    began = with_event(StageBegan(stage, n, kept))
    logger.debug("%s: %d, of which %d are kept", stage, n, kept, extra=began)
    executor.run(missing, shared, "rule", at_once)
    return {job.title: job.kept() for job in jobs}


def _file_name(title: str, rule: TrainableRule) -> str:
    facts = [type(rule).__name__, asdict(rule), CACHE_VERSION]  # type: ignore[call-overload]
    key = content_key([*facts, torch.__version__])
    return f"{re.sub(r'[^a-z0-9]+', '-', title.lower())}-{key}.safetensors"


@dataclass(frozen=True)
class _RuleJob:
    title: str
    rule: TrainableRule
    path: Path

    @property
    def work(self) -> Work:
        return self.rule.train

    @property
    def _failed_path(self) -> Path:
        return self.path.with_suffix(".failed")

    @property
    def _state_path(self) -> Path:
        return self.path.with_suffix(".state")

    def is_kept(self) -> bool:
        return is_intact(self.path) or is_intact(self._failed_path)

    def state(self) -> bytes | None:
        return read_sealed(self._state_path)

    def keep_state(self, state: bytes) -> None:
        write_sealed(self._state_path, state)

    def keep(self, result: TrainedNetwork | Failed) -> None:
        """Keep the network, or the reason of a failure: it would diverge again at every launch."""
        if isinstance(result, Failed):
            reason = f"{self.title}: {result.reason}"
            write_checked(self._failed_path, lambda file: file.write(reason.encode()))
        else:
            content = result.to_bytes()
            write_checked(self.path, lambda file: file.write(content))
        self._state_path.unlink(missing_ok=True)

    def kept(self) -> TrainedNetwork | Failed:
        if self.path.exists():
            return TrainedNetwork.from_bytes(self.path.read_bytes())
        reason = self._failed_path.read_text()
        logger.warning(reason)
        return Failed(reason)
