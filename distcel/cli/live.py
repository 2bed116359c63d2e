"""A run as a block of lines at the end of the terminal, which is drawn anew as the run goes on.

Messages without an event, and warnings, are printed above it. One thread draws: a signal, which
interrupts the main thread, then leaves no line half drawn. The block only moves the cursor, so a
command that is killed leaves the terminal as it was.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from threading import Event, Thread
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distcel.cli.signals import stops_announced_by
from distcel.execute.progress import event_of
from distcel.execute.view import SEARCH, Stage, View, described

_NAME_WIDTH = 15
_BAR_WIDTH = 12
_SECONDS_BETWEEN_DRAWINGS = 0.25


@contextmanager
def live_block(stream: TextIO) -> Iterator[None]:
    """Show the run on the terminal while the context is open, in place of the log's lines.

    What is printed there meanwhile is put above the block. The block is removed at the end; where
    the run was stopped or has failed, it stays.
    """
    logger, block = logging.getLogger("distcel"), _Block(stream)
    handlers, level = [*logger.handlers], logger.level
    logger.handlers[:] = [_BlockHandler(block)]
    logger.setLevel(logging.DEBUG)
    with stops_announced_by(block.note):
        block.thread.start()
        try:
            with _put_above(block):
                yield
            block.live.transient = True
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            block.ended.set()
            block.thread.join()


class _Console(Console):
    """A console that never hides the cursor, which a killed command could not show again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Block:
    """The block, the lines that wait to be printed above it, and the thread that draws both."""

    def __init__(self, stream: TextIO) -> None:
        self.view, self._note = View(time.monotonic()), ""
        self.above: deque[Text] = deque()
        console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self.live = Live(
            console=console,
            get_renderable=self._shown,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.ended = Event()
        self.thread = Thread(target=self._draw, name="terminal", daemon=True)

    def note(self, text: str) -> None:
        """Show the text below the run; called by a signal's handler, it writes nothing itself."""
        self._note = text

    def _draw(self) -> None:
        with suppress(OSError):  # the terminal may be gone
            self.live.start()
            self.live.refresh()
            while not self.ended.wait(_SECONDS_BETWEEN_DRAWINGS):
                self._print_above()
                self.live.refresh()
            self._print_above()
            self.live.stop()

    def _print_above(self) -> None:
        if lines := [self.above.popleft() for _ in range(len(self.above))]:
            self.live.console.print(Text("\n").join(lines), soft_wrap=True)

    def _shown(self) -> RenderableType:
        """The block, with an empty line for the cursor."""
        return Group(render(self.view, time.monotonic()), Text(self._note, style="bold"))


class _BlockHandler(logging.Handler):
    """Shows events in the block, and other messages above it."""

    def __init__(self, block: _Block) -> None:
        super().__init__()
        self.block = block

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        if event is not None:
            self.block.view = self.block.view.after(event, time.monotonic())
        if record.levelno >= (logging.INFO if event is None else logging.WARNING):
            style = "yellow" if record.levelno >= logging.WARNING else ""
            self.block.above.append(Text(record.getMessage(), style=style))


@contextmanager
def _put_above(block: _Block) -> Iterator[None]:
    """Put what is printed on the terminal above the block while the context is open."""

    def put(line: str) -> None:
        block.above.append(Text.from_ansi(line))

    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream.isatty():
                lines = _Lines(stream, put)
                stack.enter_context(redirect(lines))
                stack.callback(lines.end)
        yield


class _Lines:
    """In place of a stream: has it all, but for writing, which puts whole lines elsewhere."""

    def __init__(self, stream: TextIO, put: Callable[[str], None]) -> None:
        self._stream, self._put, self._begun = stream, put, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._put(line)
        return len(text)

    def flush(self) -> None:
        """A line is put where it belongs once it has ended."""

    def end(self) -> None:
        """Put the line that has begun."""
        if self._begun:
            self.write("\n")


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
        facts.add_row("best so far", described(best))
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


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes >= 10:
        return f"{minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
