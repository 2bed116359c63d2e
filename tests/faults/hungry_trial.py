"""A search with a trial that takes more memory than Ray allows.

    python -m tests.faults.hungry_trial FOLDER

Prints the records as JSON. A process of its own, for the cluster's memory limit.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import ray
import torch
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

from distcel.core.networks import NetworkPlan
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.types import SelectionParams
from distcel.train.selection import SelectionTraining, TrainingTask
from tests.cached_splits import made_splits
from tests.core.test_ensemble import specialists
from tests.search.test_search import EXPERIMENT, search

# Bytes above what is in use when it starts; other tests may take some of the allowed ones.
ALLOWED, TAKEN = 5_000_000_000, 9_000_000_000


def main() -> None:
    """Run the search."""
    folder = Path(sys.argv[1])

    @dataclass(frozen=True)
    class Hungry(TrainingTask):
        """The first trial, the only one with the paper's point, fills the memory."""

        def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
            if params == EXPERIMENT.first_trial:
                with (folder / "tries").open("a") as file:
                    file.write("x")
                held = [np.ones(10**7) for _ in range(TAKEN // (8 * 10**7))]
                raise AssertionError(f"{len(held)} arrays fitted")
            return super().begin(params, device)

    limit = (get_used_memory() + ALLOWED) / get_system_memory()
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _system_config={"memory_usage_threshold": limit, "memory_monitor_refresh_ms": 50},
    )
    plan = NetworkPlan(EXPERIMENT.network, (1, 16, 16), (0.5,), (0.25,))
    task = Hungry(EXPERIMENT, plan, made_splits(specialists(0), specialists(1)), seed=0)
    records = search(task, folder, 3, RayExecutor(lambda: WorkerPool(1, 1.0, 0.0)))
    print(json.dumps([asdict(record) for record in records]))


if __name__ == "__main__":
    main()
