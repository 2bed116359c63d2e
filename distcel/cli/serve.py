"""Answer images over HTTP with the smart ensemble of a run, until it is stopped.

distcel serve runs/digits-quick-seed0
distcel serve runs/digits-quick-seed0 --port 9000 --replicas 4
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
from pathlib import Path

from distcel.cli.output import put
from distcel.cli.signals import unwind_on_signals
from distcel.experiment.errors import invalid, require, require_count

SUMMARY = "answer images over HTTP"
# Ray's processes inherit these. A busy machine takes longer than Serve's three times 5 s to start,
# and answers are waited for, while Ray's other workers have the lowest priority.
_RAYS = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20", "RAY_worker_niceness": "0"}


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of `serve`."""
    add = flags.add_argument
    add("folder", type=Path, metavar="RUN", help="a run directory, or an ensemble folder")
    add("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    add("--port", type=int, default=8000, help="the port to listen on (8000)")
    add("--replicas", type=int, default=1, help="processes that answer, a core each (1)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it.

    Raises:
        InvalidInputError: there is no ensemble, the extra is missing or the port is taken.
        RunFailedError: Ray does not start, or fails.
    """
    from distcel.serve.saved import load_ensemble

    folder, host, port = arguments.folder.absolute(), arguments.host, arguments.port
    require_count("replicas", arguments.replicas)
    load_ensemble(folder)  # replicas would report a damaged one later, in a log
    _require_free(host, port)
    try:
        from ray import serve

        from distcel.serve.deployment import application
    except ImportError:
        rule, remedy = "the packages of Ray Serve", "pip install 'distcel[serve]'"
        raise invalid(rule, "not all of them", remedy) from None

    from distcel.execute.cluster import connection
    from distcel.execute.environment import environment

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    with environment(**_RAYS), connection("local") as connected:
        dashboard = connected()
        unwind_on_signals("stopping")  # Ray has handlers of its own
        serve.start(http_options={"host": host, "port": port})
        given = {"folder": str(folder), "replicas": str(arguments.replicas)}
        serve.run(application(given), name="distcel")
        put(f"http://{host}:{port}/predict answers; Ray's dashboard: {dashboard}")
        while True:
            signal.pause()


def _require_free(host: str, port: int) -> None:
    rule, remedy = "a free --port of this --host", "choose another one"
    require(0 < port < 2**16, "a --port of 1 to 65535", port, remedy)
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise invalid(rule, f"{host}:{port} ({error.strerror})", remedy) from None
