"""How torch is set in a process that trains: one thread, and memory that is used again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Parameters of mallopt(3), as glibc's malloc.h numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEPT = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1}
# What glibc arrives at in a process that has freed an array of 32 MiB or more.
_USUAL = {_M_MMAP_MAX: 65_536, _M_MMAP_THRESHOLD: 2**25, _M_TRIM_THRESHOLD: 2**26}


def set_up_worker() -> None:
    """Let torch use one thread, and let it keep freed memory, for as long as the process lives.

    There is one process a core, and sums are added up in the same order on every machine.
    """
    torch.set_num_threads(1)
    _set_memory(_KEPT)


@contextmanager
def worker_settings() -> Iterator[None]:
    """What `set_up_worker` sets, for the time of the context: the same numbers as on a worker."""
    before = torch.get_num_threads()
    set_up_worker()
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _set_memory(_USUAL)


def _set_memory(settings: dict[int, int]) -> None:
    """Let glibc keep freed memory, or return it to the operating system as it usually does.

    Usually it maps an array of tens of MiB by itself, gives it back when it is freed, and cuts off
    the free end of its heap as well. The outputs of a network's first layers are as large, so that
    every training step gets its memory anew, and waits until the operating system has cleared it
    (`python -m benchmarks.memory`).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter, value in settings.items():
        libc.mallopt(parameter, value)
    if settings is _USUAL:
        libc.malloc_trim(0)
