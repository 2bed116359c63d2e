"""Names the trials that wait for a worker or whose worker is silent: Ray Tune does not."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from ray import tune

from distcel.search.recorder import Recorder

if TYPE_CHECKING:
    from distcel.execute.ray_executor import RayExecutor

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_WORDS = 60.0
_SILENT_EPOCHS = 10  # as of a base learner's worker


class Silence(tune.Callback):
    """Says once a minute which trial has no worker, or a worker that is silent.

    Ray places trials one at a time, and waits for the answer of a node that has been stopped even
    when it counts it as lost (ray-project/ray, issue 64693): until that node goes on or its
    connection breaks, no trial gets a worker.

    Args:
        recorder: knows the numbers of the trials.
        executor: is asked for its pool meanwhile, which names the nodes that join and leave.
    """

    def __init__(self, recorder: Recorder, executor: RayExecutor) -> None:
        self._recorder, self._executor = recorder, executor
        self._longest_epoch: float | None = None
        self._last_event: dict[str, float] = {}  # by Tune's id of a trial
        self._last_word: dict[str, float] = {}
        self._looked = time.monotonic()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps snapshots of its callbacks; nothing is restored from them

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Count the trial's silence from now on."""
        self._last_event[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Note how long the epoch took."""
        now = time.monotonic()
        seconds = now - self._last_event.get(trial.trial_id, now)
        self._longest_epoch = max(self._longest_epoch or 0.0, seconds)
        self._last_event[trial.trial_id] = now

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Count anew: the trial waits for another worker."""
        self._last_event[trial.trial_id] = time.monotonic()

    def on_step_begin(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Name the trials that have been silent for too long."""
        now = time.monotonic()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        self._executor.current_pool()
        running = [trial for trial in trials if trial.status == "RUNNING"]
        for trial in trials:
            begun = self._last_event.setdefault(trial.trial_id, now)
            since = max(begun, self._last_word.get(trial.trial_id, begun))
            number, seconds = self._recorder.numbers[trial.trial_id], now - begun
            if trial.status == "PENDING" and not running and now - since > _SECONDS_BETWEEN_WORDS:
                self._last_word[trial.trial_id] = now
                line = "trial %d: has waited for a worker for %.0f s; if a node has been stopped, "
                line += "let it go on, or end its `ray start`"
                logger.warning(line, number, seconds)
            elif trial.status == "RUNNING" and now - since > self._limit():
                self._last_word[trial.trial_id] = now
                line = "trial %d: its worker is silent for %.0f s; epochs took %.1f s at most"
                logger.warning(line, number, seconds, self._longest_epoch)

    def _limit(self) -> float:
        """Seconds between two words about a trial that runs."""
        if self._longest_epoch is None:  # no epoch has shown how long one takes
            return float("inf")
        return max(_SILENT_EPOCHS * self._longest_epoch, _SECONDS_BETWEEN_WORDS)
