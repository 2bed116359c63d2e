"""Networks trained on a TrainingTask by an executor, each kept in a file of its own.

`FOLDER/<title>-<key>.safetensors` is a rule's network, or `.failed` says why it has none; while it
is trained, `.state` is what its training can go on from.
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
from distcel.storage.files import content_key, is_intact, read_sealed, write_checked, write_sealed
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.task import TrainingTask

logger = logging.getLogger(__name__)

# Part of every kept network's key. Raise it with any change after which a rule is trained to other
# numbers from the same task and torch; what trials share with it has a version in train/selection.
CACHE_VERSION = 1


class TrainableRule(Protocol):
    """A rule that is a trained network; a frozen dataclass whose fields are JSON."""

    def train(
        self, task: TrainingTask, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | TrainedNetwork]:
        """Yields progress that brings a state to go on from, if any, and at its end the network.

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
) -> dict[str, TrainedNetwork | Failed]:
    """Train the rules of which no intact network is kept; returns all of them.

    Args:
        rules: by title, the longest training first.
        shared: the TrainingTask that they are trained on, as `executor.share` returned it.
        executor: where they are trained.
        folder: where the networks are kept; its name answers for the task being the same.
        at_once: how many are trained at once at most; None is as many as there are workers.

    Returns:
        dict: by title.

    Raises:
        RunFailedError: workers were lost over and over with the same rule; the other rules are
            trained and kept first.
    """
    jobs = [
        _RuleJob(title, rule, folder / _file_name(title, rule)) for title, rule in rules.items()
    ]
    executor.run(jobs, shared, "rule", at_once)
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
        """Keep the network, or why there is none: the training would diverge at every launch."""
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
