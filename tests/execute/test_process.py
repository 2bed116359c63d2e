"""A process that trains keeps freed memory, and a process that trained returns it again."""

from __future__ import annotations

import platform
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Executor
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor

from .test_executors import FileJob

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's memory is set"
)

_MIB = 2**20
_PAGES = 64 * _MIB // resource.getpagesize()


def new_pages() -> int:
    """How many pages the operating system hands over for the second of two equal objects."""
    before = 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        bytes([1]) * (64 * _MIB)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def count(shared: object, device: torch.device, state: bytes | None) -> Iterator[str]:
    yield str(new_pages())


@pytest.mark.parametrize("on_ray", [False, True], ids=["inline", "ray"])
def test_a_worker_uses_freed_memory_again(
    on_ray: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    executor: Executor = InlineExecutor()
    if on_ray:
        pool: WorkerPool = request.getfixturevalue("pool")
        executor = RayExecutor(lambda: pool)
    job = FileJob(count, tmp_path, "job")
    executor.run([job], executor.share(None), "base learner")
    assert int(job.result()) < _PAGES // 10


def free(shared: object, device: torch.device, state: bytes | None) -> Iterator[str]:
    """Yield how much memory the process has after 256 MiB of it were freed."""
    bytes([1]) * (256 * _MIB)
    yield str(resident())


def resident() -> int:
    """Bytes that the process has of the machine's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_process_returns_freed_memory_once_it_has_trained(tmp_path: Path) -> None:
    job = FileJob(free, tmp_path, "job")
    InlineExecutor().run([job], None, "base learner")
    assert resident() < int(job.result()) - 128 * _MIB
