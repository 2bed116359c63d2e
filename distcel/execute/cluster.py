"""Connects to Ray: a local cluster with its dashboard on 127.0.0.1, or one that runs already."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import ray

from distcel.execute.address import chosen_address, require_answer
from distcel.execute.environment import environment
from distcel.execute.pool import WorkerPool
from distcel.execute.private_folder import keep, private_folder
from distcel.experiment.errors import RunFailedError, invalid, require
from distcel.storage.provenance import write_copy


def cluster_pool(gpu_share: float) -> WorkerPool:
    """The pool for the cluster that Ray is connected to."""
    return WorkerPool.on_nodes([n["Resources"] for n in ray.nodes() if n["Alive"]], gpu_share)


@contextmanager
def connect(address: str | None) -> Iterator[str]:
    """Connect to Ray while the context is open; yields where its dashboard is, for the log.

    Arguments and errors are those of `connection`.
    """
    with connection(address) as connected:
        yield connected()


@contextmanager
def connection(address: str | None, ray_log: bool = False) -> Iterator[Callable[[], str]]:
    """Ray for as long as the context is open; yields what connects, once it is called.

    A launch that finds everything done never calls it, and saves the seconds of Ray's start. What
    is yielded returns where the dashboard is, for the log.

    Args:
        address: the address of a running cluster; None is that of `RAY_ADDRESS`, and without it
            starts a cluster here, as `local` does. Workers get the code as it is when the context
            is entered, which this process imported.
        ray_log: whether Ray's own log, and what is printed on its workers, is printed here.

    Raises:
        InvalidInputError: no cluster answers at the address, it refuses this process's token, or
            this process is connected to Ray already.
        RunFailedError: Ray does not start, or fails: a full disk or object store, say.
    """
    _require_unconnected()
    found, by = chosen_address(address)
    private = private_folder() if found is None else nullcontext(None)
    # With log_to_driver=False, Ray still prints on stdout what it notices of nodes and workers.
    silent = mock.patch.object(ray._private.worker, "_worker_logs_enabled", False)
    with TemporaryDirectory() as folder, private as rays, silent:
        write_copy(Path(folder))
        # Not py_modules: workers would look for distcel in the driver's current folder first.
        code = {"working_dir": folder}
        try:
            yield lambda: _connect(found, by, rays, code, ray_log)
        except ray.exceptions.RayError as error:
            if isinstance(error, ray.exceptions.RayTaskError):  # a defect, with its traceback
                raise
            remedy = f"the same command continues the run{_kept_logs(rays)}"
            raise RunFailedError(f"Ray failed ({_in_one_line(error)}): {remedy}") from error
        finally:
            ray.shutdown()


def _connect(
    address: str | None, by: str, rays: Path | None, code: dict[str, Any], ray_log: bool
) -> str:
    # In a job of `ray job submit`, whose working_dir is the job's, this launch's goes first.
    ours = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
    level = logging.INFO if ray_log else logging.ERROR
    log = {"log_to_driver": ray_log, "logging_level": level}
    with environment(**ours):
        if rays is not None:
            context = _start_cluster(rays, code, log)
        else:
            assert address is not None, "without a folder for Ray's files, a cluster is joined"
            require_answer(address, by)
            context = _join_cluster(address, by, code, log)
    url = context.dashboard_url  # empty where the cluster was started without one
    sign_in = "(sign in with what `ray get-auth-token` prints)"
    return f"http://{url} {sign_in}" if url else "none on this cluster"


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


def _start_cluster(rays: Path, code: dict[str, Any], log: dict[str, Any]) -> Any:
    _keep_token_private()
    try:
        # Not _temp_dir: the dashboard's sockets would be outside it. Unless the user has a TMPDIR,
        # what Ray's processes leave in theirs goes with the folder as well; in this process,
        # `connection` has fixed the folder of `tempfile` before.
        temporary = os.environ.get("TMPDIR", str(rays))
        with mock.patch.dict(os.environ, RAY_TMPDIR=str(rays), TMPDIR=temporary):
            return ray.init(
                address="local",
                runtime_env=code,
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                **log,
            )
    except Exception as error:  # Ray raises a bare one where a process of its own does not start
        why = f"({_in_one_line(error)}){_kept_logs(rays)}"
        raise RunFailedError(f"Ray does not start here {why}") from error


def _kept_logs(rays: Path | None) -> str:
    """Keep Ray's files, if they are this launch's own; returns where, for the end of a message."""
    if rays is None:
        return ""
    keep(rays)
    return f"; Ray's logs are in {rays}"


def _join_cluster(address: str, by: str, code: dict[str, Any], log: dict[str, Any]) -> Any:
    try:
        return ray.init(address=address, runtime_env=code, **log)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        remedy = "start one with `ray start --head`, or leave the address out"
        rule = f"a Ray cluster that this process can join at {by}"
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
