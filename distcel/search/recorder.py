"""Records the trials that Tune reports; the records do not depend on Tune's own state."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from ray import tune

from distcel.execute.jobs import Failed
from distcel.execute.progress import short_point
from distcel.execute.ray_errors import reason_of
from distcel.experiment.types import SelectionParams
from distcel.search.trials import TrialStore

logger = logging.getLogger(__name__)

OUTCOME = "outcome"  # the key of an epoch's result, an EpochResult or Failed
WORKER = "worker"  # the key of what `describe_worker` returned beside an EpochResult
SAMPLES = "samples"  # the key of the number of samples of an epoch
# Parts of Ray's messages. A trial that has not begun did not cause its worker's death either.
_NODE_LOST = ("actor is temporarily unavailable", "node has died", "node was terminated")
_WORKER_LOST = (*_NODE_LOST, "worker process has died", "error raised in its creation task")


class NotKeptError(BaseException):
    """A record could not be written; Tune would swallow an Exception in a callback."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class Recorder(tune.Callback):
    """Writes Tune's reports to the trial store."""

    def __init__(self, store: TrialStore) -> None:
        self.store = store
        self.lost_a_trial = False
        self.numbers: dict[str, int] = {}
        self.begun: set[int] = set()  # in this round; a record may be from an earlier round
        # The searcher proposes the interrupted trials first.
        self.in_order = chain((r.number for r in store.running()), count(store.next_number()))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps snapshots of its callbacks; nothing is restored from them

    def name(self, trial: Any) -> str:
        """The name of a trial that Tune makes, its number and point; they are made in order."""
        if trial.trial_id not in self.numbers:  # Tune makes it again where it is tried again
            self.numbers[trial.trial_id] = next(self.in_order)
        return f"trial {self.numbers[trial.trial_id]} {short_point(trial.config)}"

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record the trial as running, without epochs from before its worker was lost."""
        number = self.numbers[trial.trial_id]
        self.begun.add(number)
        with _not_swallowed():
            self.store.begin(number, SelectionParams.from_dict(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Record an epoch, or the reason of a trial that diverged."""
        number, outcome = self.numbers[trial.trial_id], result[OUTCOME]
        if isinstance(outcome, Failed):
            with _not_swallowed():
                self.store.fail(number, outcome.reason)
        else:
            self.store.add_epoch(number, outcome, result[WORKER], result[SAMPLES])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record the trial as complete."""
        number = self.numbers[trial.trial_id]
        if self.store[number].state == "RUNNING":
            with _not_swallowed():
                self.store.complete(number)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Say that Tune begins the trial again, which it does once."""
        logger.warning("trial %d: worker lost, it begins again", self.numbers[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Record the trial's failure, unless it was caused by the loss of its worker."""
        number, error = self.numbers[trial.trial_id], _last_error(trial)
        not_its_fault = _NODE_LOST if number in self.begun else _WORKER_LOST
        with _not_swallowed():
            if number not in self.store:
                self.store.begin(number, SelectionParams.from_dict(trial.config))
            if not any(phrase in error for phrase in not_its_fault):
                self.store.fail(number, reason_of(error))
                return
        # The trial stays RUNNING and begins again in the next round.
        self.lost_a_trial = True
        logger.warning("trial %d: worker lost, it begins again", number)


@contextmanager
def _not_swallowed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotKeptError(error) from error


def _last_error(trial: Any) -> str:
    """Ray's message on the last failure; `trial.get_error()` does not have it yet."""
    text = Path(trial.error_file).read_text() if trial.error_file else "unknown reason"
    return text.rpartition("Failure # ")[2]
