"""The open ports of a launch, and passwords in its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.cli.search import how_to_compare
from tests.faults.observed import PLANTED, ROOT, Seen


def test_a_job_without_the_token_is_refused(seen: Seen) -> None:
    assert seen.submission == 401
    assert "sign in with what `ray get-auth-token` prints" in seen.output


def test_only_the_owner_can_read_the_token(seen: Seen) -> None:
    assert seen.token_mode == 0o600


def test_the_documents_name_the_processes_that_listen_on_all_interfaces(seen: Seen) -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    everywhere = {name for name, hosts in seen.listening.items() if hosts & {"0.0.0.0", "::"}}
    assert {"gcs_server", "raylet"} <= everywhere
    for name in everywhere - {Path(sys.executable).resolve().name}:
        assert name in page
    assert "listen" in page


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become another user")
def test_another_user_cannot_replace_the_code_of_the_workers(seen: Seen) -> None:
    assert not seen.is_session_open


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
