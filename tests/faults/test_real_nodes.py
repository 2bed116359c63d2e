"""Launches on a cluster of real processes whose nodes join, are unfit, stop and leave."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distcel.execute.address import require_answer
from distcel.experiment.errors import InvalidInputError
from tests.faults.real_cluster import TOKEN, RealCluster

SMOKE = ["--preset", "smoke", "--num-samples", "3", "--mlflow-uri", "none"]


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealCluster]:
    """A head; lost nodes are noticed soon in the short form, as by default in the full one."""
    soon = not request.config.getoption("--full")
    with RealCluster(tmp_path_factory.mktemp("cluster"), soon) as started:
        yield started


@pytest.fixture
def without_nodes(cluster: RealCluster) -> Iterator[RealCluster]:
    yield cluster
    for number in [*cluster.nodes]:
        if number != 1:
            cluster.kill(number)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, r"got none \(RAY_AUTH_MODE is not set\): set RAY_AUTH_MODE=token, and copy"),
        ({"RAY_AUTH_MODE": "token"}, "got none: copy the token of its head"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "other"}, "got another one: copy the token"),
    ],
)
def test_a_token_that_is_missing_or_wrong_is_named(
    variables: dict[str, str],
    message: str,
    cluster: RealCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInputError, match=rf"the token of the Ray cluster .*{message}"):
        require_answer(cluster.address, "--address")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    require_answer(cluster.address, "--address")


def test_a_submitted_launch_waits_for_nodes_avoids_an_unfit_one_and_survives_a_stopped_one(
    without_nodes: RealCluster,
    tmp_path: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    cluster, unfit = without_nodes, tmp_path / "unfit" / "torch"
    unfit.mkdir(parents=True)
    (unfit / "__init__.py").write_text("raise ImportError('libtorch is broken')")
    (config := tmp_path / "longer.toml").write_text("[learner_recipe]\nepochs = 5\n")
    for number in range(times(1, 10)):
        run_dir = tmp_path / f"run{number}"
        flags = [*SMOKE, "--config", str(config), "--run-dir", str(run_dir)]
        flags += ["--address", "auto"] if number % 2 else []  # without it, by RAY_ADDRESS
        begun, launch = time.monotonic(), cluster.submit("python", "launch/cluster.py", *flags)
        launch.wait_for("no node with a CPU core or a GPU can work yet: waiting for one to join")
        cluster.start_node(2)
        launch.wait_for("node 127.0.0.2: can work")
        cluster.start_node(3, PYTHONPATH=str(unfit.parent))
        launch.wait_for("base learner 5/55")
        cluster.signal(2, signal.SIGSTOP)  # from here on the launch needs node 4
        cluster.start_node(4)
        launch.wait_for("node 127.0.0.3: ImportError: libtorch is broken; it gets no work")
        launch.wait_for("node 127.0.0.4: can work")
        time.sleep(times(0, 70))
        cluster.signal(2, signal.SIGCONT)
        ended = launch.join()
        assert ended == 0, launch.text
        assert "node 127.0.0.2: has left" in launch.text
        assert "(raylet)" not in launch.text  # Ray's own lines
        done = [line for line in launch.text.splitlines() if line.startswith("base learner ")]
        print(f"launch {number}: ended after {time.monotonic() - begun:.0f} s")
        once = len(done) == 55 == len({line.split()[3] for line in done})
        workers = json.loads((run_dir / "results.json").read_text())["workers"]
        counted = [sum(w[stage] for w in workers) for stage in ("base_learners", "trials", "refit")]
        tally("node stopped during a submitted launch", once and counted == [55, 3, 1])
        for node in (2, 3, 4):
            cluster.kill(node)
        time.sleep(times(0, 30))  # until Ray has noticed
