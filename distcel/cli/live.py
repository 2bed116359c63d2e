"""A run as a block of lines at the end of the terminal, which is drawn anew as the run goes on.

Messages without an event, and warnings, are printed above it. The block only moves the cursor: a
command that is killed leaves the terminal as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distcel.cli.signals import stops_announced_by
from distcel.cli.view import SEARCH, Stage, View
from distcel.execute.progress import Trial, event_of

_NAME_WIDTH = 15
_BAR_WIDTH = 12
_REFRESHES_A_SECOND = 4
_POINT = ("k", "epsilon", "lr")


@contextmanager
def live_block(stream: TextIO) -> Iterator[None]:
    """Show the run on the terminal while the context is open, in place of the log's lines.

    The block is removed at the end; where the run was stopped or has failed, it stays.
    """
    logger, block = logging.getLogger("distcel"), _Block()
    handlers, level = [*logger.handlers], logger.level
    console = _Console(file=stream, highlight=False, markup=False, emoji=False)
    live = Live(console=console, get_renderable=block.shown, refresh_per_second=_REFRESHES_A_SECOND)
    logger.handlers[:] = [_BlockHandler(block, console)]
    logger.setLevel(logging.DEBUG)
    try:
        with stops_announced_by(block.note):
            live.start(refresh=True)
            yield
            live.transient = True
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        with suppress(OSError):  # the terminal may be gone
            live.stop()


class _Console(Console):
    """A console that never hides the cursor, which a killed command could not show again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Block:
    """The block: what is known of the run, and a note below it."""

    def __init__(self) -> None:
        self.view, self._note = View(time.monotonic()), ""

    def note(self, text: str) -> None:
        """Show the text below the run; called by a signal's handler, it writes nothing itself."""
        self._note = text

    def shown(self) -> RenderableType:
        """The block, with an empty line for the cursor."""
        return Group(render(self.view, time.monotonic()), Text(self._note, style="bold"))


class _BlockHandler(logging.Handler):
    """Shows events in the block, and other messages above it."""

    def __init__(self, block: _Block, console: Console) -> None:
        super().__init__()
        self.block, self.console = block, console

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        if event is not None:
            self.block.view = self.block.view.after(event, time.monotonic())
        if record.levelno >= (logging.INFO if event is None else logging.WARNING):
            try:
                style = "yellow" if record.levelno >= logging.WARNING else ""
                self.console.print(Text(record.getMessage(), style=style), soft_wrap=True)
            except OSError:
                self.handleError(record)


def render(view: View, now: float) -> RenderableType:
    """The lines of a run.

    Args:
        view: the run.
        now: `time.monotonic()`.
    """
    stages = Table.grid(padding=(0, 1), expand=True)
    stages.add_column(width=_NAME_WIDTH, no_wrap=True)
    stages.add_column(min_width=5, justify="right", no_wrap=True)
    stages.add_column(width=_BAR_WIDTH)
    stages.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for stage in view.stages:
        bar = ProgressBar(total=stage.n, completed=stage.done, width=_BAR_WIDTH)
        count = f"{stage.done}/{stage.n}" if stage.n else ""
        stages.add_row(stage.name, count, bar if stage.n else "", _details(view, stage, now))
    facts = Table.grid(padding=(0, 1))
    facts.add_column(width=_NAME_WIDTH, no_wrap=True)
    facts.add_column(overflow="fold")
    if best := view.best():
        facts.add_row("best so far", _described(best))
    for name, where in view.addresses.items():
        facts.add_row(name, where)
    return Group(_headline(view, now), stages, facts)


def _headline(view: View, now: float) -> Text:
    stage = view.stages[-1].name if view.stages else "imports and data"
    what = f"{view.title}: {stage}" if view.title else stage
    text = f"{what}, {_duration(now - view.began)} so far"
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def _details(view: View, stage: Stage, now: float) -> str:
    """How long the current stage will take; what is trained, or how the trials stand."""
    left, parts = stage.seconds_left(now), []
    if stage is view.stages[-1] and left is not None:
        parts.append(f"about {_duration(left)} left")
    if stage.name == SEARCH:
        parts += [f"{count} {what}" for what, count in view.counts().items() if count]
    elif stage is view.stages[-1]:
        parts += [f"{title} (epoch {e})" if e else title for title, e in view.training.items()]
    return ", ".join(parts)


def _described(trial: Trial) -> str:
    point = " ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial.point.items()
        if name in _POINT
    )
    return f"valid {trial.valid_accuracy:.4f}, trial {trial.number}: {point}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
