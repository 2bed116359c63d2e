"""One launch whose code is edited while it runs, for all tests that observe it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PLANTED = ("correct-horse-42", "battery-staple-43")
EDIT = "raise RuntimeError('edited')\n"


@dataclass(frozen=True)
class Seen:
    """Observations of one launch, while it ran and afterwards.

    Attributes:
        submission: status of a job that was sent to the dashboard without a token.
        listening: the addresses that each of the launch's processes listened on, by its name.
        token_mode: permissions of Ray's token.
        status: of the launch.
        output: standard output and errors together.
        folder: where it was launched; its results are below.
        ray_session: a copy of Ray's folder of the launch, which is removed at its end.
        is_session_open: whether another user could write into it.
    """

    submission: int
    listening: dict[str, set[str]]
    token_mode: int
    status: int
    output: str
    folder: Path
    ray_session: Path
    is_session_open: bool


def observe(folder: Path, home: Path, checkout: Path) -> Seen:
    """Launch a copy of the code, and edit every file of it once the launch is up.

    It has a password in the tracking URI and another one in a variable of its own.
    """
    for package in ("distcel", "launch", "search_spaces"):
        shutil.copytree(ROOT / package, checkout / package)
    (checkout / "distcel" / "train" / ".#loop.py").symlink_to("who@where")  # an editor holds it
    command = [sys.executable, str(checkout / "launch" / "cluster.py"), "--preset", "smoke"]
    command += ["--num-samples", "2"]
    own = {"MLFLOW_TRACKING_PASSWORD": PLANTED[1], "HOME": str(home), "PYTHONPATH": str(checkout)}
    own["MLFLOW_TRACKING_URI"] = f"http://user:{PLANTED[0]}@127.0.0.1:9"
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    begun = ""
    while "dashboard" not in begun:  # Ray starts with the first job
        line = process.stdout.readline()
        assert line, begun
        begun += line
    for package in ("distcel", "launch", "search_spaces"):
        for file in (checkout / package).rglob("[!.]*.py"):
            file.write_text(EDIT)  # from now on an import of it fails, here and on workers
    found = re.search(r"http://127\.0\.0\.1:(\d+)", begun)
    assert found, begun + process.stdout.read()
    submission = _submit_a_job(int(found[1]))
    listening = _listening(psutil.Process(process.pid))
    session = _ray_session(psutil.Process(process.pid))
    is_open = os.getuid() == 0 and can_another_user_write(session / "runtime_resources")
    over, copy = threading.Event(), folder / "ray-session"
    copier = threading.Thread(target=_copy_until, args=(over, session, copy))
    copier.start()
    rest, _ = process.communicate(timeout=300)
    over.set()
    copier.join()
    assert not session.exists()
    mode = (home / ".ray" / "auth_token").stat().st_mode & 0o777
    output = begun + rest
    return Seen(submission, listening, mode, process.returncode, output, folder, copy, is_open)


def _ray_session(process: psutil.Process) -> Path:
    """The session folder of Ray's processes for this launch."""
    commands = [" ".join(child.cmdline()) for child in process.children(recursive=True)]
    found = re.search(r"/[^\s=]+/session_[\w-]+", " ".join(commands))
    assert found, commands
    return Path(found[0])


def _copy_until(over: threading.Event, session: Path, copy: Path) -> None:
    """Copy the files of the session again and again, as its processes write them."""
    while not over.wait(0.5):
        for path in [*session.rglob("*")]:
            with suppress(OSError):  # it is gone by now
                if path.is_file():
                    place = copy / path.relative_to(session)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, place)


def can_another_user_write(folder: Path) -> bool:
    """Whether a process of the user `nobody` can make a file there; for tests that root runs."""
    child = os.fork()
    if child == 0:
        with suppress(OSError):
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            (folder / "by-another-user").touch()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def _submit_a_job(port: int) -> int:
    """The status of an attempt without a token."""
    job = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/jobs/",
        data=json.dumps({"entrypoint": "touch /tmp/owned"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    for _ in range(50):
        try:
            with urllib.request.urlopen(job, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the dashboard does not answer")


def _listening(process: psutil.Process) -> dict[str, set[str]]:
    """The addresses that each of the launch's processes listens on, by its name."""
    found: dict[str, set[str]] = {}
    for each in [process, *process.children(recursive=True)]:
        for connection in each.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(Path(each.exe()).name, set()).add(connection.laddr.ip)
    return found
