"""What a launch leaves open, and what it writes down."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from distcel.cli.search import how_to_compare

ROOT = Path(__file__).parents[2]
PLANTED = ("correct-horse-42", "battery-staple-43")


@dataclass(frozen=True)
class Seen:
    """What was seen of one launch while it ran and afterwards."""

    submission: int
    listening: dict[str, set[str]]
    token_mode: int
    output: str
    folder: Path
    ray_session: Path


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """A launch with a password in --mlflow-uri and another one in the environment."""
    folder, home = tmp_path_factory.mktemp("launch"), tmp_path_factory.mktemp("home")
    command = [sys.executable, str(ROOT / "launch" / "cluster.py"), "--preset", "smoke"]
    command += ["--num-samples", "2", "--mlflow-uri", f"http://user:{PLANTED[0]}@127.0.0.1:9"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"MLFLOW_TRACKING_PASSWORD": PLANTED[1], "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    found = re.search(r"http://127\.0\.0\.1:(\d+)", lines[0])
    assert found, lines[0] + process.stdout.read()
    submission = _submit_a_job(int(found[1]))
    listening = _listening(psutil.Process(process.pid))
    session = Path(os.path.realpath("/tmp/ray/session_latest"))
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 0, rest
    mode = (home / ".ray" / "auth_token").stat().st_mode & 0o777
    return Seen(submission, listening, mode, lines[0] + rest, folder, session)


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


def test_a_job_without_the_token_is_turned_away(seen: Seen) -> None:
    assert seen.submission == 401
    assert "sign in with what `ray get-auth-token` prints" in seen.output


def test_the_token_is_the_owners_alone(seen: Seen) -> None:
    assert seen.token_mode == 0o600


def test_the_documents_name_what_listens_on_all_interfaces(seen: Seen) -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    everywhere = {name for name, hosts in seen.listening.items() if hosts & {"0.0.0.0", "::"}}
    assert {"gcs_server", "raylet"} <= everywhere
    for name in everywhere - {Path(sys.executable).resolve().name}:
        assert name in page
    assert "listen" in page


def test_no_password_is_written_anywhere(seen: Seen) -> None:
    written = {"the output": seen.output.encode()}
    for root in (seen.folder, seen.ray_session):
        for path in root.rglob("*"):
            if path.is_file():
                written[str(path)] = path.read_bytes()
    assert len(written) > 200
    for password in PLANTED:
        leaks = [name for name, content in written.items() if password.encode() in content]
        assert leaks == []
    assert any(name.endswith("results.json") for name in written)


def test_a_password_in_a_database_uri_is_not_repeated() -> None:
    uri = f"postgresql://user:{PLANTED[0]}@127.0.0.1:9/mlflow"
    code = "from distcel.cli.main import script; raise SystemExit(script('search', 'cluster.py'))"
    ran = subprocess.run(
        [sys.executable, "-c", code, "--mlflow-uri", uri.replace("postgresql", "oracle")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert ran.returncode == 2
    assert PLANTED[0] not in ran.stdout + ran.stderr
    assert how_to_compare(uri) == "127.0.0.1, the MLflow server"
