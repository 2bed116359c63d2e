"""MLflow's system metrics, of the machine of the launch, for the time of a search."""

from __future__ import annotations

import time

from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


class SystemMetrics:
    """Samples processor, memory, disk, network and GPUs, as MLflow's own monitor does.

    That monitor has a thread of its own, which ends with the first request that fails. Here its
    samples are taken by the thread that keeps MLflow up to date, which tries again.
    `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false` turns them off.

    Args:
        client: connected to the server or database.
        run: the run that they are logged with.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self._client, self._run = client, run.info
        self._monitor = SystemMetricsMonitor(run.info.run_id, tracking_uri=client.tracking_uri)
        switch = MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
        self._is_on = switch.get() or not switch.is_set()
        self._next = time.monotonic() + self._monitor.sampling_interval
        self._take()  # the first one has no processor time: it counts from the one before

    def sample(self) -> None:
        """Log a sample if the last one is 10 s old; its step is the second since the run began."""
        if not self._is_on or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._monitor.sampling_interval
        found, now = self._take(), int(time.time() * 1000)
        step = (now - self._run.start_time) // 1000
        metrics = [Metric(f"system/{name}", value, now, step) for name, value in found.items()]
        self._client.log_batch(self._run.run_id, metrics)

    def _take(self) -> dict[str, float]:
        self._monitor.collect_metrics()
        found: dict[str, float] = self._monitor.aggregate_metrics()
        for monitor in self._monitor.monitors:
            monitor.clear_metrics()
        return found
