"""What a result comes from: the machine, the commit, and the code that this process runs.

A run takes hours, and its files may be edited meanwhile: what is on disk then is not what the
process imported. All sources are therefore read when this module is imported.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from distcel.experiment.errors import RunFailedError

# Names of `torch.cpu.get_capabilities`, which is public; processors of another kind have no such
# entries. What oneDNN calls supported includes emulation, which gains nothing.
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}

_PACKAGE = Path(__file__).parents[1]
_ROOT = _PACKAGE.parent
_CODE = ("distcel", "launch", "search_spaces")


def _sources() -> dict[Path, str]:
    """The text of every module by its path in the installed package.

    In a checkout the search spaces lie beside the package; a wheel has them inside.
    """
    folders = {Path(): _PACKAGE, Path("search_spaces"): _ROOT / "search_spaces"}
    return {
        place / path.relative_to(folder): path.read_text(encoding="utf-8")
        for place, folder in folders.items()
        for path in sorted(folder.rglob("[!.]*.py"))
    }


_AS_IMPORTED = _sources()


@cache
def source_digest() -> str:
    """The digest of the package's source as this process imported it, 24 hexadecimal digits.

    It is for records alone. Cache keys have what determines the content, and a `CACHE_VERSION`.
    """
    digest = hashlib.blake2b(digest_size=12)
    for path, text in sorted(_AS_IMPORTED.items()):
        digest.update(f"{path.as_posix()}\0{text}\0".encode())
    return digest.hexdigest()


def write_copy(folder: Path) -> Path:
    """Write the package as it was imported to `folder/distcel`, which is returned."""
    package = folder / _PACKAGE.name
    package.mkdir()
    for path, text in _AS_IMPORTED.items():
        copy = package / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    return package


def describe_machine() -> str:
    """Cores and processor of this machine, and its GPUs, in one line."""
    import torch  # takes a second, which other uses of this module do without

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([cores, *gpus])


@cache  # every epoch of a trial has it
def describe_worker() -> dict[str, str]:
    """What may change the numbers of this process: versions, processor, GPU and precision.

    Raises:
        ImportError: one of the libraries is missing or broken here.
    """
    import torch

    return {
        "node": platform.node(),
        **library_versions(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "bfloat16": bfloat16_hardware() or "none",
    }


def library_versions() -> dict[str, str]:
    """The versions of what cache keys have the driver's version of."""
    import numpy as np
    import torch

    found = {"torch": torch.__version__, "torchvision": version("torchvision")}
    return found | {"numpy": np.__version__}


def require_versions(driver: Mapping[str, str]) -> None:
    """Check on a worker, before its first job, that its libraries are the driver's.

    Raises:
        RunFailedError: the worker has another version.
    """
    here = library_versions()
    others = [
        f"{name} {here[name]}, not {driver[name]}" for name in driver if here[name] != driver[name]
    ]
    if others:
        raise RunFailedError(f"node {platform.node()} has {'; '.join(others)}")


def bfloat16_hardware() -> str | None:
    """The hardware here with bfloat16: the GPU, or without one the CPU's instructions, if any."""
    import torch

    if torch.cuda.is_available():
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name() if has_it else None
    found = torch.cpu.get_capabilities()
    return next((title for name, title in _INSTRUCTIONS.items() if found.get(name)), None)


def describe_commit(root: Path = _ROOT) -> str | None:
    """The commit of distcel's checkout, with `, changed` if its code is not that commit's.

    None where distcel lies in no checkout of its own, or git fails.
    """
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "--short", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_CODE)
    if commit is None or changes is None:
        return None
    return f"{commit}, changed" if changes else commit


def _git(root: Path, *arguments: str) -> str | None:
    # With a lock on the index, a commit of the user's could fail.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=30, env=own
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
