from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.cli.exit_status import exit_status
from distcel.cli.signals import Stopped

# A process that is signalled where the second argument says, and would end with status 0.
CHILD = """
import os, signal, sys, time
from distcel.cli.signals import Stopped, unwind_on_signals

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass  # where Python runs the handler

unwind_on_signals()
try:
    if sys.argv[1] == "finalizer":
        value = Finalized()
        del value
    else:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
except Stopped as stop:
    print("unwound", flush=True)
    if sys.argv[1] == "twice":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(20)
    sys.exit(128 + stop.number)
"""


@pytest.mark.parametrize(
    ("where", "status"), [("code", 128 + 15), ("finalizer", 128 + 15), ("twice", 128 + 2)]
)
def test_a_signal_unwinds_wherever_it_comes_and_a_second_one_ends(where: str, status: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, where], capture_output=True, text=True, timeout=15
    )
    assert ran.returncode == status, ran.stderr
    assert ran.stdout == "unwound\n"
    assert ran.stderr == "SIGTERM: stopping; the same command continues the run\n"


# A process whose terminal goes away: SIGHUP twice, while nothing can be written any more.
HUNG_UP = """
import os, signal, sys, time
from distcel.cli.exit_status import exit_status

def run():
    os.close(1)
    os.close(2)
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(20)
    finally:
        os.kill(os.getpid(), signal.SIGHUP)
        open(sys.argv[1], "x").close()
    return 0

sys.exit(exit_status(run))
"""


def _heeds_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_terminal_that_closes_stops_a_command_as_sigterm_does(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HUNG_UP, str(tmp_path / "unwound")]
    # These tests may run under nohup themselves, which a process inherits.
    ran = subprocess.run(command, timeout=15, preexec_fn=_heeds_hangups)
    assert ran.returncode == 128 + 1
    assert (tmp_path / "unwound").exists()


def test_a_command_under_nohup_survives_its_terminal(tmp_path: Path) -> None:
    code = HUNG_UP.replace("time.sleep(20)", "pass")
    command = ["nohup", sys.executable, "-c", code, str(tmp_path / "unwound")]
    assert subprocess.run(command, timeout=15, capture_output=True).returncode == 0


# A process that waits for a worker which says nothing, and is signalled while it does.
WAITING = """
import os, signal, sys, threading, time
import ray
from distcel.execute.ray_run import first_ready
from distcel.cli.exit_status import exit_status
from distcel.cli.signals import unwind_on_signals

@ray.remote
def silent():
    time.sleep(600)
    yield 1

def run():
    ray.init(address="local", include_dashboard=False, num_cpus=1, log_to_driver=False)
    unwind_on_signals()
    stream = silent.options(num_returns="streaming").remote()
    threading.Timer(3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    while first_ready([stream]) is None:
        pass
    return 0

sys.exit(exit_status(run))
"""


def test_a_signal_ends_the_wait_for_a_worker_that_says_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 128 + 15, ran.stderr


def test_tune_does_not_take_a_stop_for_an_error() -> None:
    assert not issubclass(Stopped, Exception | SystemExit | KeyboardInterrupt)


def test_a_stop_that_ray_wraps_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distcel.cli.exit_status.unwind_on_signals", lambda: None)  # pytest's stay

    def wait() -> int:
        raise SystemError("returned a result with an exception set") from Stopped(15)

    assert exit_status(wait) == 128 + 15

    def broken() -> int:
        raise SystemError("something else")

    with pytest.raises(SystemError, match="something else"):
        exit_status(broken)


def test_a_full_disk_is_one_line_and_another_error_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("distcel.cli.exit_status.unwind_on_signals", lambda: None)

    def fail(number: int) -> int:
        raise OSError(number, os.strerror(number), "runs/x")

    assert exit_status(lambda: fail(errno.ENOSPC)) == 1
    text = "error: runs/x: No space left on device: remove the cause and repeat the command\n"
    assert capsys.readouterr().err == text
    with pytest.raises(ConnectionRefusedError):
        exit_status(lambda: fail(errno.ECONNREFUSED))
