"""What the dashboard of Grafana queries is what a run exports at the endpoint of its Ray node."""

from __future__ import annotations

import json
import logging
import math
import re
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from unittest import mock

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from distcel.execute import metrics
from distcel.execute.pool import WorkerPool
from distcel.execute.progress import (
    Event,
    RunBegan,
    SearchBegan,
    StageBegan,
    Training,
    TrainingEnded,
    Trial,
    with_event,
)

DASHBOARD = Path(__file__).parents[2] / "launch" / "grafana.json"
POINT = {"k": 2, "epsilon": 0.1234, "m": 7, "lr": 1.0, "gradient": "exact", "vote": "sum"}
RUN = ("dataset=digits", "run=digits, seed 0")

Series = dict[str, dict[tuple[str, ...], float]]


def scraped() -> Series:
    """The values of distcel's metrics by their labels."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: Series = defaultdict(dict)
    for sample in (sample for family in families for sample in family.samples):
        if "distcel" in sample.name:
            own = {"run", "dataset", "stage", "trial", "point"} & sample.labels.keys()
            labels = tuple(f"{name}={sample.labels[name]}" for name in sorted(own))
            found[sample.name][labels] = sample.value
    return found


@pytest.fixture(scope="module")
def exported(pool: WorkerPool, tmp_path_factory: pytest.TempPathFactory) -> Series:
    """What is exported of a made run, whose log shows warnings alone, a while after its events."""
    cache = tmp_path_factory.mktemp("learners")
    (cache / "train").mkdir()
    (cache / "train" / "cat.arrow").write_bytes(bytes(1000))
    logger = logging.getLogger("distcel.made")
    logger.setLevel(logging.WARNING)
    earlier = Trial(0, "COMPLETE", 9, 0.75, POINT)
    events: list[Event] = [
        RunBegan("digits, seed 0", "digits", cache),
        StageBegan("base learners", 3, 1),
        Training("cat"),
        Training("cat", 1, 90),
        Training("cat", 2, 90),
        TrainingEnded("cat"),
        SearchBegan(4, 9, math.inf, (earlier,)),
        Trial(1, "RUNNING", 0, None, POINT),
        Trial(1, "RUNNING", 1, 0.5, POINT, 100),
        Trial(1, "RUNNING", 2, 0.625, POINT, 100),
    ]
    short = mock.patch.object(metrics, "_SECONDS_BETWEEN_EXPORTS", 0.5)
    with short, metrics.exported_metrics():
        for event in events:
            logger.debug("", extra=with_event(event))
        deadline = time.monotonic() + 60
        while not scraped() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3.0)  # Ray drops a gauge that was not set for two seconds
        return scraped()


def test_a_run_is_exported_with_the_trials_of_earlier_launches(exported: Series) -> None:
    learners, trials = (*RUN, "stage=base learners"), (*RUN, "stage=trials")
    point = "point=k=2 epsilon=0.123 lr=1"
    assert exported == {
        "ray_distcel_trainings": {learners: 3, trials: 4},
        "ray_distcel_trainings_done": {learners: 2, trials: 1},
        "ray_distcel_samples_total": {learners: 180, trials: 200},
        "ray_distcel_trial_valid_accuracy": {
            (RUN[0], point, RUN[1], "trial=0"): 0.75,
            (RUN[0], point, RUN[1], "trial=1"): 0.625,
        },
        "ray_distcel_cache_bytes": {RUN: 1000},
    }


def test_the_dashboard_queries_nothing_else(exported: Series) -> None:
    text = DASHBOARD.read_text()
    queries = [t["expr"] for panel in json.loads(text)["panels"] for t in panel["targets"]]
    assert {name for query in queries for name in re.findall(r"ray_\w+", query)} == {*exported}
    labels = {one.partition("=")[0] for series in exported.values() for of in series for one in of}
    shown = set(re.findall(r"{{(\w+)}}", text))
    selected = {name for query in queries for name in re.findall(r"(\w+)=~?\"", query)}
    assert shown | selected <= labels
