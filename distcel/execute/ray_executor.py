"""The executor on a Ray cluster: reused actors, each with a core or a share of a GPU.

Actors stream their progress and results to the driver, which alone writes files: no shared file
system is needed. An actor that is lost, or silent for much longer than an epoch takes, is replaced,
and its job continues from its last kept state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import ray

from distcel.execute.jobs import Job
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_run import Run

if TYPE_CHECKING:
    from distcel.execute.nodes import Nodes


class RayExecutor:
    """Runs jobs on actors of a Ray cluster.

    Args:
        find_pool: connects to Ray where this process is not connected yet; returns how many actors
            run at once, and what each of them holds of a node, or the nodes of a cluster that was
            joined, whose pool changes. It is called when the first job runs.
    """

    def __init__(self, find_pool: Callable[[], WorkerPool | Nodes]) -> None:
        self._find_pool = find_pool
        self.n_actors: Counter[str] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps snapshots of what refers to it; nothing is restored from them

    @cached_property
    def _found(self) -> WorkerPool | Nodes:
        return self._find_pool()

    def current_pool(self, wanted: int | None = None) -> WorkerPool:
        """The pool now, where `wanted` workers would have work; None is as many as before."""
        found = self._found
        return found if isinstance(found, WorkerPool) else found.pool(wanted)

    def look_again(self) -> None:
        """Let the next `current_pool` look at the nodes at once: one may be lost."""
        if not isinstance(self._found, WorkerPool):
            self._found.look_again()

    @property
    def pool(self) -> WorkerPool:
        """How many actors run at once now, and what each of them holds of a node."""
        return self.current_pool()

    @property
    def n_workers(self) -> int:
        """How many actors run at once."""
        return self.pool.size

    def share(self, data: Any) -> Shared:
        """The data, which goes to Ray's object store when the first job needs it."""
        return Shared(self, data)

    def run(
        self, jobs: Sequence[Job], shared: Shared, kind: str, at_once: int | None = None
    ) -> int:
        """Run the jobs as `Executor.run` describes."""
        missing = [job for job in jobs if not job.is_kept()]
        if missing:
            run = Run(self, missing, shared, kind)
            try:
                run.run_all(at_once or len(missing))
            finally:
                run.stop_actors()
        return len(missing)


class Shared:
    """Data that every worker of an executor can read.

    Args:
        executor: connects to Ray.
        data: what is shared.
    """

    def __init__(self, executor: RayExecutor, data: Any) -> None:
        self._executor, self._data = executor, data

    @cached_property
    def reference(self) -> Any:
        """The reference to the data in Ray's object store, which has it once."""
        _ = self._executor.pool  # connects to Ray
        return ray.put(self._data)
