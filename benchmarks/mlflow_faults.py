"""What an ailing MLflow costs the search: at most 5 %.

    python -m benchmarks.mlflow_faults

Whole launches on digits in turns, each from its first trial's start to its last one's end: MLflow
in its own database, a server that refuses, and one that answers after 30 seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Timing, ratio, table
from distcel.search.trials import TrialStore
from tests.faults.test_mlflow_fails import Proxy, Server

CLUSTER = str(Path(__file__).parents[1] / "launch" / "cluster.py")
N_TRIALS, REPETITIONS = 24, 3


def search_seconds(uri: str | None) -> float:
    """Of one launch, which is ended once its results are there."""
    with TemporaryDirectory() as folder:
        results = Path(folder, "run", "results.json")
        command = [sys.executable, CLUSTER, "--preset", "smoke", "--num-samples", str(N_TRIALS)]
        command += ["--fix", "gradient=exact", "--run-dir", str(results.parent)]
        command += [] if uri is None else ["--mlflow-uri", uri]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not results.exists():
            assert process.poll() is None, "the launch failed"
            time.sleep(0.1)
        process.terminate()
        process.wait()
        (trials,) = results.parent.glob("search/*/trials")
        epochs = [epoch for record in TrialStore(trials).snapshot() for epoch in record.epochs]
        began = min(epoch.ended_ms - 1000 * epoch.seconds for epoch in epochs)
        return (max(epoch.ended_ms for epoch in epochs) - began) / 1000


def report() -> str:
    """The table, as Markdown."""
    with TemporaryDirectory() as folder:
        server = Server(Path(folder))
        server.start()
        slow = Proxy(server.port)
        slow.mode, slow.delay = "slow", 30.0
        uris = {
            "its own database": None,
            "refuses": "http://127.0.0.1:9",
            "answers after 30 s": f"http://127.0.0.1:{slow.server_address[1]}",
        }
        seconds: dict[str, list[float]] = {name: [] for name in uris}
        for _ in range(REPETITIONS):
            for name, uri in uris.items():
                seconds[name].append(search_seconds(uri))
        server.kill()
    times = {name: Timing(tuple(values)) for name, values in seconds.items()}
    healthy = times["its own database"]
    rows = [[name, f"{t.median:.2f}", ratio(t, healthy)] for name, t in times.items()]
    return table(["MLflow", f"search of {N_TRIALS} trials, s", "of the healthy one's (1.05)"], rows)


if __name__ == "__main__":
    print(report())
