"""A tracking server that refuses, dies, is slow, returns 500 or loses its responses."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from distcel.experiment.types import SelectionParams
from distcel.search.trials import TrialRecord
from distcel.tracking.live import MLFLOW_ENVIRONMENT, LiveUpdates
from distcel.tracking.mlflow import Tracker
from distcel.tracking.records import SearchIdentity
from distcel.train.checkpoint import EpochResult
from tests.tracking.made import identity, outcome

N_TRIALS, N_EPOCHS = 6, 4
Mode = Literal["healthy", "slow", "500", "loses answers"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A real MLflow server, which can be killed and restarted with its database."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health").close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise TimeoutError("the MLflow server does not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


class Proxy(ThreadingHTTPServer):
    """A proxy that passes requests on to the server, or fails according to its mode."""

    daemon_threads = True

    def __init__(self, server_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.to_port = server_port
        self.mode: Mode = "healthy"
        self.delay = 1.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Report no errors: a launch that has ended does not wait for responses."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def _pass_on(self) -> None:
        mode = self.server.mode
        body = self._body()
        if mode == "500":
            self.send_error(500)
            return
        if mode == "slow":
            time.sleep(self.server.delay)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.to_port)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            connection.close()
        if mode == "loses answers":
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        del self.headers["Transfer-Encoding"]
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(autouse=True)
def _as_in_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is tried again once, not for a minute."""
    for name, value in MLFLOW_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


class Search:
    """Trials that end one after another and are tracked by MLflow behind a proxy."""

    def __init__(
        self, server: Server, identity: SearchIdentity, records: list[TrialRecord]
    ) -> None:
        self.records, self.proxy = records, Proxy(server.port)
        address = f"http://127.0.0.1:{self.proxy.server_address[1]}"
        self.connect: Callable[[], Tracker] = lambda: Tracker(address, identity)
        self.updates = LiveUpdates("MLflow", self.connect, lambda: list(self.records), seconds=0.05)

    def run(self, n_trials: int) -> None:
        for number in range(len(self.records), len(self.records) + n_trials):
            epochs: list[EpochResult] = []
            self.records.append(_record(number, "RUNNING", epochs))
            for epoch in range(1, N_EPOCHS + 1):
                time.sleep(0.03)
                ended_ms = 1_800_000_000_000 + 1000 * number + epoch
                epochs.append(EpochResult(epoch, 1.0, 2.0, epoch / 10, 0.03, ended_ms))
                self.records[number] = _record(number, "RUNNING", epochs)
            self.records[number] = _record(number, "COMPLETE", epochs)


def _record(
    number: int, state: Literal["RUNNING", "COMPLETE"], epochs: list[EpochResult]
) -> TrialRecord:
    params = SelectionParams(k=number + 1, epsilon=0.1, m=10, lr=0.5, gradient="exact")
    return TrialRecord(number, params, state, tuple(epochs))


def everything_once(server: Server, key: str) -> bool:
    client = MlflowClient(f"http://127.0.0.1:{server.port}")
    experiment = client.get_experiment_by_name("distcel faults")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "", ViewType.ACTIVE_ONLY, 1000)
    runs = [run for run in found if run.data.tags["distcel.search"] == key]
    ended = all(run.info.status == "FINISHED" for run in runs)
    (parent,) = (run for run in runs if "distcel.trial" not in run.data.tags)
    models = client.search_logged_models(
        [experiment.experiment_id], f"source_run_id = '{parent.info.run_id}'"
    )
    versions = client.search_model_versions(f"run_id = '{parent.info.run_id}'")
    assert parent.inputs is not None
    once = len(models) == len(versions) == len(parent.inputs.dataset_inputs) == 1
    trials = [run for run in runs if "distcel.trial" in run.data.tags]
    numbers = sorted(int(run.data.tags["distcel.trial"]) for run in trials)
    names = {field.name for field in fields(SelectionParams)}
    described = all(set(run.data.params) == names for run in trials)
    steps = [
        [m.step for m in client.get_metric_history(run.info.run_id, name)]
        for run in trials
        for name in ("valid_accuracy", "valid_loss", "train_loss")
    ]
    complete = all(found == list(range(1, N_EPOCHS + 1)) for found in steps)
    return (
        ended
        and once
        and len(runs) == N_TRIALS + 1
        and numbers == list(range(N_TRIALS))
        and described
        and complete
    )


@pytest.mark.parametrize("fault", ["refused", "killed", "slow", "500", "loses answers"])
def test_mlflow_has_everything_once_after_the_next_launch(
    fault: str,
    server: Server,
    tmp_path: Path,
    saved_ensemble: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    (tmp_path / "report.md").write_text("tables")
    metrics, files = {"test_e2e_cel": 0.9}, [tmp_path / "report.md"]
    found = outcome(metrics, saved_ensemble, *files, register="faults")
    for repetition in range(times(1, 5)):
        if fault == "refused":
            server.kill()
        tracked = identity(f"{fault} {repetition}", tmp_path, "distcel faults")
        search = Search(server, tracked, [])
        search.run(N_TRIALS // 3)
        if fault == "killed":
            server.kill()
        elif fault != "refused":
            search.proxy.mode = fault  # type: ignore[assignment]
            search.proxy.delay = times(1, 30)
        search.run(N_TRIALS // 3)
        time.sleep(0.5)  # for it to be noticed
        search.run(N_TRIALS // 3)
        search.updates.close(found, seconds=2)
        search.proxy.mode = "500"  # nothing comes from a process that has ended
        search.updates.thread.join(60)

        if server.process is None:
            server.start()
        again = Search(server, tracked, search.records)
        again.updates.close(found, seconds=60)
        tally(f"MLflow: {fault}", everything_once(server, tracked.key))
