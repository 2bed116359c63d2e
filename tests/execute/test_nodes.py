"""Nodes of a cluster get work if they have what the launch has; others are left out by name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from distcel.execute import nodes, ray_run
from distcel.execute.nodes import Nodes
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.errors import InvalidInputError, RunFailedError
from distcel.storage.provenance import describe_worker, library_versions
from tests.execute.test_executors import job


@pytest.fixture
def other_launch(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the launch has; the workers' own processes keep what is installed."""
    facts = dict(describe_worker())
    monkeypatch.setattr(nodes, "describe_worker", lambda: facts)
    return facts


def test_a_node_with_the_versions_of_the_launch_gets_its_jobs(
    pool: WorkerPool, tmp_path: Path
) -> None:
    found = Nodes(1.0)
    now = found.pool()
    assert (now.size, now.avoided) == (2, ())
    executor, one = RayExecutor(lambda: found), job(tmp_path, "one")
    assert executor.run([one], executor.share("data"), "rule") == 1
    assert one.is_kept()


@pytest.mark.parametrize("library", ["torch", "torchvision", "numpy"])
def test_a_node_with_another_version_is_left_out_by_name(
    library: str, pool: WorkerPool, other_launch: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    installed, other_launch[library] = other_launch[library], "0.1"
    name = ray.nodes()[0]["NodeManagerAddress"]
    reason = f"node {name}: {library} {installed}, where the launch has 0.1"
    with pytest.raises(InvalidInputError, match=re.escape(f"got {reason}: install")):
        Nodes(1.0).pool()
    assert f"{reason}; it gets no work" in caplog.messages


def test_a_node_with_other_instructions_works_and_is_named(
    pool: WorkerPool, other_launch: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    theirs, other_launch["cpu_capability"] = other_launch["cpu_capability"], "NONE"
    assert Nodes(1.0).pool().size == 2
    assert f"computes with {theirs}, this machine with NONE" in caplog.text


def test_an_autoscaler_sees_no_more_waiting_workers_than_have_work(pool: WorkerPool) -> None:
    found = Nodes(1.0)
    waiting = []
    for wanted in (0, 2, 3, 9, 2):
        found.pool(wanted)
        waiting.append(len(found.demand))
    assert waiting == [0, 0, 1, 2, 0]


def test_a_worker_with_another_version_gets_no_job(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = library_versions() | {"numpy": "0.1"}
    monkeypatch.setattr(ray_run, "library_versions", lambda: other)
    monkeypatch.setattr(ray_run, "MAX_LOSSES", 2)
    executor, one = RayExecutor(lambda: pool), job(tmp_path, "one")
    with pytest.raises(RunFailedError, match="start of a worker, rule: worker lost 2 times"):
        executor.run([one], executor.share("data"), "rule")
    assert not (tmp_path / "one-begun").exists()


def test_workers_are_not_on_a_node_that_was_left_out(pool: WorkerPool) -> None:
    avoiding = replace(pool, avoided=(ray.nodes()[0]["NodeID"],))
    there = where.options(label_selector=pool.label_selector).remote()
    elsewhere = where.options(label_selector=avoiding.label_selector).remote()
    assert ray.get(there) == avoiding.avoided[0]
    assert ray.wait([elsewhere], timeout=2)[0] == []
    ray.cancel(elsewhere)


@ray.remote
def where() -> str:
    node_id: str = ray.get_runtime_context().get_node_id()
    return node_id
