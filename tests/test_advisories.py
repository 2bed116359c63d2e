"""The installed versions against the known advisories: `pip install pip-audit` turns it on."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest


def test_no_installed_version_has_a_known_advisory() -> None:
    if find_spec("pip_audit") is None:
        pytest.skip("pip-audit is not installed")
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    ran = subprocess.run([*command, "--timeout", "10"], capture_output=True, text=True)
    try:
        found = json.loads(ran.stdout)["dependencies"]
    except ValueError:
        pytest.skip("pip-audit's service cannot be reached")
    assert [package for package in found if package.get("vulns")] == []
