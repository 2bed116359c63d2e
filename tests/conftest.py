from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from distcel.fleet import ActorPool
from tests.data import SHARED_DATA


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that want it are skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def pool() -> Iterator[ActorPool]:
    """A Ray cluster of two cores on this machine, shared by all tests that need one."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    yield ActorPool.on_cluster(gpus_per_worker=1.0)
    ray.shutdown()
