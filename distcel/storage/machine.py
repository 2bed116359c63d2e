"""What hardware and what code a result comes from."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_CODE = ("distcel", "launch", "search_spaces")


def describe_machine() -> str:
    """Cores and processor of this machine, and its GPUs, in a few words."""
    import torch  # a second, which only who asks pays

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([cores, *gpus])


def describe_commit(root: Path = _ROOT) -> str | None:
    """The commit of distcel's checkout, with `, changed` if its code is not that commit's.

    None where distcel lies in no checkout of its own, or git does not tell.
    """
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "--short", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    if commit is None or changes is None:
        return None
    return f"{commit}, changed" if changes else commit


def _git(root: Path, *arguments: str) -> str | None:
    # Without the lock of the index, for which a commit of the user's would fail.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=own
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
