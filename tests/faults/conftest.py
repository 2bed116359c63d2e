"""Injects faults and counts which of them did no harm.

python -m pytest tests/faults              every fault at least once, minutes
python -m pytest tests/faults --full       as often as it takes to believe it, an hour
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.faults.observed import Seen, observe

CHECKS = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
for _name, _count in (("short", 200), ("full", 20_000)):
    settings.register_profile(
        _name, max_examples=_count, deadline=5000, suppress_health_check=CHECKS
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "short")


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One launch for the tests of its open ports, its files and its imports."""
    return observe(*(tmp_path_factory.mktemp(name) for name in ("launch", "home", "checkout")))


@pytest.fixture
def times(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """`times(few, many)`: how often to inject a fault, in CI and in the full run."""
    full = bool(request.config.getoption("--full"))
    return lambda few, many: many if full else few


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[str, bool], None]]:
    """`tally(fault, held)` counts a fault for the table at the end; harm fails the test."""
    counted: list[tuple[str, bool]] = []
    yield lambda fault, held: counted.append((fault, held))
    request.node.user_properties.append(("faults", counted))
    harmed = [fault for fault, held in counted if not held]
    assert not harmed, f"{len(harmed)} faults did harm: {set(harmed)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for found in terminalreporter.stats.values() for report in found]
    injected: Counter[str] = Counter()
    held: Counter[str] = Counter()
    for report in reports:
        if getattr(report, "when", None) == "teardown":
            for fault, did_hold in dict(report.user_properties).get("faults", []):
                injected[fault] += 1
                held[fault] += did_hold
    if injected:
        terminalreporter.section("faults")
    for fault, count in injected.items():
        terminalreporter.write_line(f"{fault}: {count} injected, {held[fault]} held")
