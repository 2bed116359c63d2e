"""Timing side by side: candidates take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from distcel.storage.provenance import describe_machine


@dataclass(frozen=True)
class Timing:
    """Seconds of each repetition of one candidate."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the repetitions."""
        return statistics.median(self.seconds)


def in_turns(
    candidates: Mapping[str, Callable[[], object]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Call every candidate once without counting, then all in turns.

    Args:
        candidates: what is timed, by name.
        repetitions: how often each is called.
        clock: returns seconds; `time.process_time` where the candidates use one thread and other
            programs run beside them.
    """
    for run in candidates.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repetitions):
        for name, run in candidates.items():
            started = clock()
            run()
            seconds[name].append(clock() - started)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def ratio(slow: Timing, fast: Timing) -> str:
    """How many times faster: of the medians, and from quarter to quarter of the paired turns."""
    paired = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    low, _, high = statistics.quantiles(paired, n=4) if len(paired) > 1 else paired * 3
    return f"{slow.median / fast.median:.3g} ({low:.3g} to {high:.3g})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def conditions() -> str:
    """The machine and the versions, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "optuna"))
    return (
        f"{describe_machine()}, load before {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {packages}"
    )
