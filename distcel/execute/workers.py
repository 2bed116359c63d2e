"""The user's choice of where trainings run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distcel.execute.address import chosen_address
from distcel.execute.progress import Address, with_event
from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.errors import require_choice, require_positive

if TYPE_CHECKING:
    from distcel.execute.jobs import Executor
    from distcel.execute.pool import WorkerPool

logger = logging.getLogger(__name__)

ExecutorName = Literal["ray", "inline"]


@dataclass(frozen=True)
class Workers:
    """The choice of where trainings run.

    Attributes:
        executor: `ray`, or `inline` for this process without Ray.
        address: the address of a running Ray cluster; None is that of `RAY_ADDRESS`, and without it
            starts one on this machine, as `local` does.
        gpus_per_worker: the share of a GPU for each worker, where there are GPUs.
        connected: called once Ray is connected; Ray has replaced the signal handlers by then.
        ray_log: whether Ray's own log, and what is printed on its workers, is printed here.
    """

    executor: ExecutorName = "ray"
    address: str | None = None
    gpus_per_worker: float = 0.25
    connected: Callable[[], None] = lambda: None
    ray_log: bool = False

    def __post_init__(self) -> None:
        require_choice("executor", self.executor, ExecutorName)
        require_positive("gpus_per_worker", self.gpus_per_worker)

    @contextmanager
    def open(self, network: Architecture | OwnArchitecture | None = None) -> Iterator[Executor]:
        """The executor, while the context is open; Ray is connected when the first job runs.

        Args:
            network: the architecture to train; a user's own function is sent to the workers.
        """
        if self.executor == "inline":
            from distcel.execute.inline import InlineExecutor

            yield InlineExecutor()
            return
        from distcel.execute.cluster import cluster_pool, connection, send_by_value
        from distcel.execute.metrics import exported_metrics
        from distcel.execute.nodes import Nodes
        from distcel.execute.ray_executor import RayExecutor

        if isinstance(network, OwnArchitecture):
            send_by_value(network.build)

        with connection(self.address, self.ray_log) as connect, exported_metrics():

            def find_pool() -> WorkerPool | Nodes:
                dashboard = connect()
                self.connected()
                event = with_event(Address("Ray dashboard", dashboard))
                logger.info("Ray: dashboard %s", dashboard, extra=event)
                joined, _ = chosen_address(self.address)
                nodes = Nodes(self.gpus_per_worker) if joined else None
                pool = nodes.pool() if nodes else cluster_pool(self.gpus_per_worker)
                logger.info("Ray: %d workers at once", pool.size)
                return nodes or pool

            yield RayExecutor(find_pool)
