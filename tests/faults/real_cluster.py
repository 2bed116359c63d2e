"""A Ray cluster of processes as users start them: `ray start` on 127.0.0.1 to .4, with a token."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 4
# Ray counts a node as lost after two seconds without a heartbeat instead of fifteen.
NOTICED_SOON = (
    '{"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, '
    '"health_check_timeout_ms": 1000, "health_check_failure_threshold": 4}'
)

_PATIENCE = 180.0  # seconds; on a busy machine, a head takes more than one minute to answer


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class RealCluster:
    """A head without CPUs on 127.0.0.1, and the nodes that are started; all end with the context.

    Args:
        folder: home of the users, with the token; a checkout without tests is copied there.
        noticed_soon: whether Ray notices lost nodes sooner than it does by default.
    """

    def __init__(self, folder: Path, noticed_soon: bool) -> None:
        self.home, self.checkout = folder / "home", folder / "checkout"
        (self.home / ".ray").mkdir(parents=True)
        (self.home / ".ray" / "auth_token").write_text(TOKEN)
        for package in ("distcel", "launch", "search_spaces"):
            shutil.copytree(ROOT / package, self.checkout / package)
        self.short = Path(tempfile.mkdtemp(prefix="ray-"))  # pytest's paths are too long for Ray
        self.port, self.dashboard = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: dict[int, psutil.Popen] = {}
        head = ["--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}"]
        # Jobs are submitted to the head's agent; another cluster here may have its usual port.
        head += [f"--dashboard-agent-listen-port={free_port()}"]
        head += [f"--system-config={NOTICED_SOON}"] if noticed_soon else []
        self._start(1, ["--num-cpus=0", *head])
        self._await_answer()

    def __enter__(self) -> RealCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        for number in [*self.nodes]:
            self.kill(number)
        shutil.rmtree(self.short, ignore_errors=True)

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # Without PYTHONUNBUFFERED `ray job submit` keeps lines back until it has 8 KiB of them.
        shown_at_once = {"PYTHONUNBUFFERED": "1"}
        own = {"HOME": str(self.home), "PATH": path, "RAY_AUTH_MODE": "token"} | shown_at_once
        others = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RAY_ADDRESS")}
        return others | own | more

    def start_node(self, number: int, **variables: str) -> None:
        """Start a node of one core on 127.0.0.NUMBER; it joins later."""
        self._start(number, ["--num-cpus=1", f"--address={self.address}"], **variables)

    def _start(self, number: int, flags: list[str], **variables: str) -> None:
        (folder := self.short / str(number)).mkdir(mode=0o700, exist_ok=True)
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", f"--node-ip-address=127.0.0.{number}", "--block", *flags]
        command += ["--disable-usage-stats", "--object-store-memory=200000000"]
        # As on a machine of its own: without it, a node uses the folder of the head.
        command += [f"--temp-dir={folder / 'ray'}"]
        with (folder / "log").open("w") as log:
            self.nodes[number] = psutil.Popen(
                command,
                env=self.environment(RAY_TMPDIR=str(folder), **variables),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        for port in (self.port, self.dashboard):
            while not _is_open(port):
                assert time.monotonic() < deadline, (self.short / "1" / "log").read_text()
                time.sleep(0.1)

    def signal(self, number: int, what: signal.Signals) -> None:
        """Send a signal to all processes of a node, its workers included."""
        node = self.nodes[number]
        for process in [*node.children(recursive=True), node]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def kill(self, number: int) -> None:
        node = self.nodes.pop(number)
        try:
            processes = [node, *node.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=20)
        node.wait()

    def submit(self, *words: str) -> Output:
        """`ray job submit` of a launch from the checkout."""
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "job", "submit", "--working-dir", ".", "--", *words]
        own = self.environment(RAY_API_SERVER_ADDRESS=f"http://127.0.0.1:{self.dashboard}")
        for _ in range(10):  # a new head has no agent yet, and on a busy machine it is slow
            job = Output(command, own, self.checkout)
            job.wait_for_end_or("submitted successfully")
            if "submitted successfully" in job.text:
                break
            job.join()
        return job


class Output:
    """A command whose output is read as it comes."""

    def __init__(self, command: list[str], env: Mapping[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.text += line

    def wait_for(self, part: str) -> None:
        """Return once the output has that part.

        Raises:
            AssertionError: the command ends, or three minutes pass, without it.
        """
        deadline = time.monotonic() + _PATIENCE
        while part not in self.text:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.join()
                raise AssertionError(f"no {part!r} in: {self.text}")
            time.sleep(0.05)

    def wait_for_end_or(self, part: str) -> None:
        """Return once the output has that part, or the command has ended."""
        while self.process.poll() is None and part not in self.text:
            time.sleep(0.05)

    def join(self) -> int:
        """The exit status; an AssertionError after five minutes without it."""
        self._reader.join(timeout=300)
        assert not self._reader.is_alive(), f"still running: {self.text}"
        return self.process.wait(timeout=5)
