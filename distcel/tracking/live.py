"""Keeps a tracker up to date while the search runs, in a thread that never delays it.

What a slow or failing server misses is sent later, by the next launch at the latest.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from distcel.search.trials import TrialRecord
from distcel.tracking.records import Outcome

logger = logging.getLogger(__name__)

# MLflow reads these when it is imported and at each request.
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
}
_SECONDS_BEFORE_NOTICE = 10.0  # of waiting, before a message explains the wait
_NOT_UP_TO_DATE = "%s is not up to date: the same command again brings it up to date"


class Tracker(Protocol):
    """A view of the records of a search."""

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Bring it up to date with the records."""
        ...

    def finish(self, outcome: Outcome) -> None:
        """Add the outcome of the search."""
        ...

    def abort(self) -> None:
        """Mark the search as stopped."""
        ...


class LiveUpdates:
    """A thread that keeps a tracker up to date with the records, and never delays the search.

    Args:
        name: of the tracker, in messages.
        connect: makes the tracker; called again after a failure.
        snapshot: returns the records in their present state.
        seconds: the time between two updates.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Tracker],
        snapshot: Callable[[], list[TrialRecord]],
        seconds: float = 2.0,
    ) -> None:
        self.name, self.connect = name, connect
        self.snapshot, self.seconds = snapshot, seconds
        self._tracker: Tracker | None = None
        self._last: Callable[[Tracker], None] | None = None
        self._wake = threading.Event()
        self._has_warned = False
        self.thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self.thread.start()

    def _loop(self) -> None:
        while not self._wake.wait(self.seconds):
            self._try(lambda _: None)
        last = self._last
        assert last is not None, "close() sets it before it wakes the thread"
        if not self._try(last):
            logger.warning(_NOT_UP_TO_DATE, self.name)

    def _try(self, then: Callable[[Tracker], None]) -> bool:
        try:
            if self._tracker is None:
                self._tracker = self.connect()
            self._tracker.update(self.snapshot())
            then(self._tracker)
        except Exception as error:  # no error of a tracker may end the search
            self._tracker = None
            if not self._has_warned:
                self._has_warned = True
                # The message may contain a URI, and the URI a password.
                line, kind = "%s failed (%s); the run continues without it", type(error).__name__
                logger.warning(line, self.name, kind)
            return False
        return True

    def close(self, outcome: Outcome | None, seconds: float) -> None:
        """Update a last time, end the parent run and stop; gives up after `seconds`.

        A server that does not answer ends this earlier, by MLflow's own time limit on a request.

        Args:
            outcome: the outcome of the search; None marks the runs as killed.
            seconds: how long to wait for the tracker.
        """
        self._last = lambda tracker: tracker.finish(outcome) if outcome else tracker.abort()
        self._wake.set()
        self.thread.join(min(seconds, _SECONDS_BEFORE_NOTICE))
        if self.thread.is_alive() and seconds > _SECONDS_BEFORE_NOTICE:
            logger.warning(
                "%s is slow, waiting: the same command would also bring it up to date later",
                self.name,
            )
            self.thread.join(seconds - _SECONDS_BEFORE_NOTICE)
        if self.thread.is_alive():
            logger.warning(_NOT_UP_TO_DATE, self.name)
