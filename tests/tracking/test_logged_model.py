import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow.entities import LoggedModel, LoggedModelStatus

from distcel.serve.saved import load_ensemble
from distcel.storage import provenance
from distcel.tracking.mlflow import Tracker
from tests.conftest import ENSEMBLE_PARAMS, save_untrained
from tests.tracking.made import identity, outcome


def models(tracker: Tracker) -> list[LoggedModel]:
    query = f"source_run_id = '{tracker.parent_id}'"
    return list(tracker.client.search_logged_models([tracker.experiment_id], query))


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    """A search whose end was logged twice, with a model to register."""
    folder = tmp_path_factory.mktemp("logged")
    ensemble = save_untrained(folder / "ensemble", ENSEMBLE_PARAMS)
    patch = pytest.MonkeyPatch()
    imported = provenance._AS_IMPORTED | {Path("train", "loop.py"): "AS_IMPORTED = 1\n"}
    patch.setattr(provenance, "_AS_IMPORTED", imported)
    for _ in range(2):
        tracker = Tracker(f"sqlite:///{folder}/mlflow.db", identity("key", folder))
        tracker.finish(outcome({"test_e2e_cel": 0.75}, ensemble, register="digits"))
    patch.undo()
    return tracker


def test_the_model_is_logged_and_registered_once(logged: Tracker) -> None:
    (model,) = models(logged)
    assert (model.status, model.source_run_id) == (LoggedModelStatus.READY, logged.parent_id)
    assert model.tags["mlflow.source.name"]
    assert model.params == {"k": "3", "epsilon": "0.1", "gradient": "exact"}
    metrics = {(m.key, m.value, m.dataset_name) for m in model.metrics or []}
    assert ("test_e2e_cel", 0.75, "digits") in metrics
    outputs = logged.client.get_run(logged.parent_id).outputs
    assert outputs is not None
    assert [output.model_id for output in outputs.model_outputs] == [model.model_id]
    (version,) = logged.client.search_model_versions("name = 'digits'")
    assert (int(version.version), version.run_id) == (1, logged.parent_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": 1}]


def test_the_model_has_signature_example_pins_and_the_code_as_imported(logged: Tracker) -> None:
    folder = Path(models(logged)[0].artifact_location.removeprefix("file://"))
    description = (folder / "MLmodel").read_text()
    assert '"shape": [-1, 3,' in description
    assert json.loads((folder / "input_example.json").read_text())[0][0][0][0] == 127
    pins = (folder / "requirements.txt").read_text().split()
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert {pin.partition("=")[0] for pin in pins} >= {"torch", "safetensors"}
    # The files may have been edited since this process imported them.
    assert (folder / "code/distcel/train/loop.py").read_text() == "AS_IMPORTED = 1\n"


def test_another_ensemble_is_another_model_and_an_interrupted_one_is_deleted(
    logged: Tracker, tmp_path: Path, saved_ensemble: Path
) -> None:
    tracker = Tracker(logged.client.tracking_uri, identity("another key", tmp_path))
    client, metrics = tracker.client, {"test_e2e_cel": 0.5}
    half = client.create_logged_model(tracker.experiment_id, "x", tracker.parent_id)
    tracker.finish(outcome(metrics, saved_ensemble))
    (first,) = models(tracker)
    assert first.model_id != half.model_id
    (saved_ensemble / "ensemble.json").write_text(
        (saved_ensemble / "ensemble.json").read_text().replace("ant", "owl")
    )
    tracker.finish(outcome(metrics, saved_ensemble, register="insects"))
    assert len(models(tracker)) == 2
    (version,) = client.search_model_versions("name = 'insects'")
    assert first.model_id not in str(version.source)


@pytest.fixture
def served(logged: Tracker) -> Iterator[str]:
    """The address of the registered model, served as the guide says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/digits/1"]
    command += ["--env-manager", "local", "--port", str(port)]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # as in an activated environment
    environment = os.environ | {"MLFLOW_TRACKING_URI": logged.client.tracking_uri, "PATH": path}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def test_the_registered_model_answers_a_posted_image(served: str, logged: Tracker) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), np.uint8)
    body = json.dumps({"inputs": images.tolist()}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{served}/invocations", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        probs = json.load(answer)["predictions"]
    (model,) = models(logged)
    folder = Path(model.artifact_location.removeprefix("file://")) / "artifacts/ensemble"
    expected = load_ensemble(folder).predict_proba(images)
    np.testing.assert_allclose(probs, expected, rtol=1e-5)
