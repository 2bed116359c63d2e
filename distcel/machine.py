"""What hardware a result comes from."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    """Cores and processor of this machine, and its GPUs, in a few words."""
    import torch  # a second, which only who asks pays

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{len(os.sched_getaffinity(0))} cores of {models[0] if models else platform.machine()}"
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ", ".join([cores, *gpus])
