"""Runs that are started from Python: a progress bar for each stage, in a notebook or a terminal."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distcel.execute.progress import event_of
from distcel.execute.view import SEARCH, View, described

_SECONDS_BETWEEN_DRAWINGS = 0.25


@contextmanager
def progress() -> Iterator[None]:
    """Show what runs do while the context is open: a progress bar for each stage.

    A bar is a widget in a notebook with ipywidgets, and text elsewhere. Warnings are printed, and
    messages of the log that are not about one training.
    """
    logger, bars = logging.getLogger("distcel"), _Bars()
    handlers, level, propagate = [*logger.handlers], logger.level, logger.propagate
    logger.handlers[:], logger.propagate = [bars], False
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
        bars.close()


class _Bars(logging.Handler):
    """Shows events in the bar of their stage, and prints other messages."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no ipywidgets
            from tqdm.auto import tqdm
        self._tqdm = tqdm
        self._view = View(time.monotonic())
        self._bar: Any = None
        self._stage, self._drawn = ("", ""), 0.0

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        if event is not None:
            self._view = self._view.after(event, time.monotonic())
            self._show()
        if record.levelno >= (logging.INFO if event is None else logging.WARNING):
            self._tqdm.write(record.getMessage())

    def close(self) -> None:
        """Leave the last bar as it is."""
        self._close_bar()
        super().close()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _show(self) -> None:
        view, now = self._view, time.monotonic()
        if not view.stages:
            return
        stage = view.stages[-1]
        if self._stage != (view.title, stage.name):
            self._stage = view.title, stage.name
            self._close_bar()
            if stage.n:
                self._bar = self._tqdm(desc=stage.name, total=stage.n, initial=stage.done)
        if self._bar is None:
            return
        self._bar.set_postfix_str(_postfix(view), refresh=False)
        if self._bar.n != stage.done or now - self._drawn > _SECONDS_BETWEEN_DRAWINGS:
            self._bar.n, self._drawn = stage.done, now
            self._bar.refresh()


def _postfix(view: View) -> str:
    if view.stages[-1].name != SEARCH:
        return ", ".join(view.training)
    counts = [f"{count} {what}" for what, count in view.counts().items() if count]
    best = view.best()
    return ", ".join([*counts, *([f"best {described(best)}"] if best else [])])
