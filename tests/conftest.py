from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import ray
import torch
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from distcel.core.ensemble import SmartEnsemble, smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.execute.environment import environment
from distcel.execute.pool import WorkerPool
from distcel.experiment.architecture import Architecture
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.types import SelectionParams
from distcel.serve.saved import save_ensemble
from tests.made_data import SHARED_DATA

PLAN = NetworkPlan(Architecture("lenet", (2, 3)), (3, 16, 16), (0.2, 0.3, 0.4), (0.1, 0.2, 0.3))
NAMES = ("ant", "bee", "cow")

# Files whose tests are not to run at once: each launch has workers on both cores, and tests that
# share the cluster of `pool` start it once.
TOGETHER = {
    "launches": (
        "tests/launch/",
        "tests/cli/test_signals.py",
        "tests/faults/test_driver_killed.py",
        "tests/faults/test_edited_code.py",
        "tests/faults/test_full_disk.py",
        "tests/faults/test_nodes_and_memory.py",
        "tests/faults/test_real_nodes.py",
        "tests/faults/test_security.py",
        "tests/serve/test_deployment.py",
    ),
    "pool": (
        "tests/execute/",
        "tests/faults/test_actor_killed.py",
        "tests/faults/test_divergence.py",
        "tests/search/",
        "tests/train/test_learner.py",
    ),
}

for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
    os.environ.pop(name, None)  # launches would log there
settings.register_profile("unhurried", deadline=None)  # an example may wait for a busy machine
settings.load_profile("unhurried")
torch.set_num_threads(1)  # as every worker does: two are slower on small networks beside anything


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "as many faults as the promise is made for: an hour, not minutes"
    parser.addoption("--full", action="store_true", help=help_text)


class FilesTogether(LoadScopeScheduling):
    """Gives each file's tests to one process; those of all launches, and of all on `pool`, too."""

    def _split_scope(self, nodeid: str) -> str:
        return process_of(nodeid)


def process_of(nodeid: str) -> str:
    """What a test shares its process with."""
    file = nodeid.partition("::")[0]
    for name, files in TOGETHER.items():
        if file.startswith(files):
            return name
    return file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Launches take longest: one process begins with them, the other one takes all the rest."""
    items.sort(key=lambda item: process_of(item.nodeid) != "launches")


@pytest.fixture(autouse=True)
def _log_is_as_before() -> Iterator[None]:
    """A command that is run in this process has its log on a stream that ends with its test."""
    logger = logging.getLogger("distcel")
    handlers, level = [*logger.handlers], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that want it are skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def pool() -> Iterator[WorkerPool]:
    """A Ray cluster of two cores and two declared GPUs, shared by all tests that need one."""
    with environment(RAY_metrics_report_interval_ms="1000"):  # not ten seconds
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=2,  # declared: there are none, and networks stay on the CPU
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield WorkerPool(2, 1.0, 0.0)
    ray.shutdown()


ENSEMBLE_PARAMS = SelectionParams(k=2, epsilon=0.1, m=5, lr=1.0, gradient="exact")


def untrained(params: SelectionParams) -> SmartEnsemble:
    """A smart ensemble of six learners of the plan PLAN; a learned vote is a random one."""
    smart = smart_ensemble(PLAN.build(6, seed=99), params, 6, 3)
    generator = torch.Generator().manual_seed(0)
    for parameter in smart.vote.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return smart


def save_untrained(
    folder: Path,
    params: SelectionParams,
    temperature: float = 1.0,
    kept: Sequence[int] | None = None,
) -> Path:
    """Write it with six untrained learners, or some of them, as a folder to take away."""
    learners = [
        (spec.name, PLAN.build(3, seed=i).state_dict())
        for i, spec in enumerate(learner_specs(NAMES))
    ]
    smart = untrained(params).state_dict()
    pruned = None if kept is None else {"kept": kept}
    save_ensemble(folder, PLAN, params, NAMES, smart, learners, temperature, pruned)
    return folder


@pytest.fixture
def saved_ensemble(tmp_path: Path) -> Path:
    """The folder of such an ensemble with k = 2."""
    return save_untrained(tmp_path / "ensemble", ENSEMBLE_PARAMS)
