"""A change of the training code needs a change of its stage's CACHE_VERSION."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.train import golden
from tests.train.golden import Stage


@pytest.fixture(scope="module")
def found() -> dict[str, Stage]:
    return golden.measure()


def test_the_numbers_are_those_of_the_recorded_versions(found: dict[str, Stage]) -> None:
    assert golden.complaints(found, golden.read()) == []


def moved(stage: Stage) -> Stage:
    """The stage with its first numbers changed by little."""
    name, values = next(iter(stage.numbers.items()))
    other = "another" if isinstance(values, str) else [value + 5e-5 for value in values]
    return replace(stage, numbers={**stage.numbers, name: other})


def raised(stage: Stage) -> Stage:
    return replace(stage, cache_version=stage.cache_version + 1)


def test_other_numbers_need_a_version_and_a_version_needs_its_numbers(
    found: dict[str, Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "PATH", tmp_path / "golden.json")
    assert golden.record(found) == []
    for name, stage in found.items():
        (line,) = golden.complaints({**found, name: moved(stage)}, golden.read())
        assert line.startswith(f"{name}: the numbers changed, so raise distcel.")
        assert golden.record({**found, name: moved(stage)}) == [line]
        assert golden.read() == found  # it was refused
        (line,) = golden.complaints({**found, name: raised(stage)}, golden.read())
        assert line.startswith(f"{name}: distcel.")
        assert "CACHE_VERSION was raised, so record the new numbers" in line
    every = {name: raised(moved(stage)) for name, stage in found.items()}
    assert golden.record(every) == []
    assert golden.read() == every
