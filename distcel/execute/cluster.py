"""Connects to Ray: a local cluster with its dashboard on 127.0.0.1, or one that runs already."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray

from distcel.execute.environment import environment
from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import RunFailedError, invalid, require
from distcel.storage.provenance import write_copy


def cluster_pool(gpu_share: float) -> WorkerPool:
    """The pool for the cluster that Ray is connected to."""
    return WorkerPool.on_nodes([n["Resources"] for n in ray.nodes() if n["Alive"]], gpu_share)


@contextmanager
def connect(address: str | None) -> Iterator[str]:
    """Connect to Ray while the context is open; yields where its dashboard is, for the log.

    Args:
        address: the address of a running cluster; None starts a cluster here. Workers get the code
            that this process imported.

    Raises:
        InvalidInputError: no cluster answers at the address, or this process is connected to Ray
            already.
        RunFailedError: Ray does not start, or fails: a full disk or object store, say.
    """
    _require_unconnected()
    with TemporaryDirectory() as folder, environment(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0"):
        write_copy(Path(folder))
        # Not py_modules: workers would look for distcel in the driver's current folder first.
        code = {"working_dir": folder}
        context = _start_cluster(code) if address is None else _join_cluster(address, code)
    try:
        url = context.dashboard_url  # empty where the cluster was started without one
        sign_in = "(sign in with what `ray get-auth-token` prints)"
        yield f"http://{url} {sign_in}" if url else "none on this cluster"
    except ray.exceptions.RayError as error:
        if isinstance(error, ray.exceptions.RayTaskError):  # a defect of ours, with its traceback
            raise
        remedy = "the same command continues the run"
        raise RunFailedError(f"Ray failed ({_in_one_line(error)}): {remedy}") from error
    finally:
        ray.shutdown()


def send_by_value(function: Callable[..., Any]) -> None:
    """Let Ray send a user's function by value: workers can't import its module from their folder.

    An installed module is not sent: workers import it, as this process does.
    """
    module = sys.modules.get(function.__module__)
    path = getattr(module, "__file__", None)
    if module is not None and path is not None and "site-packages" not in Path(path).parts:
        ray.cloudpickle.register_pickle_by_value(module)


def _require_unconnected() -> None:
    rule = "a process that is not connected to Ray"
    remedy = "call ray.shutdown() first, or use executor='inline'"
    require(not ray.is_initialized(), rule, "one that is", remedy)


def _start_cluster(code: dict[str, Any]) -> Any:
    _keep_token_private()
    try:
        return ray.init(
            address="local",
            runtime_env=code,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:  # Ray raises a bare one where a process of its own does not start
        raise RunFailedError(f"Ray does not start here ({_in_one_line(error)})") from error


def _join_cluster(address: str, code: dict[str, Any]) -> Any:
    try:
        return ray.init(
            address=address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR
        )
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        remedy = "start one with `ray start --head` or leave --address out"
        rule = "a Ray cluster that answers at --address"
        raise invalid(rule, f"{address!r} ({_in_one_line(error)})", remedy) from None


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())  # some of Ray's messages have several lines


def _keep_token_private() -> None:
    """Create the token with which any code can be run here; Ray's own is readable by all users."""
    path = Path.home() / ".ray" / "auth_token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rule = "a home directory that can be written, for Ray's token"
        found = f"{str(path.parent)!r} ({error.strerror})"
        raise invalid(rule, found, "set HOME to a folder of yours") from None
    with suppress(FileExistsError), open(path, "x", opener=_open_private) as file:
        file.write(secrets.token_hex(32))
    path.chmod(0o600)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
