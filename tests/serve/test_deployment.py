"""`distcel serve`: what it answers over HTTP, what it refuses, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import distcel
from distcel.cli.main import main
from distcel.serve.answers import answers
from distcel.serve.saved import load_ensemble
from tests import made_data as data
from tests.conftest import ENSEMBLE_PARAMS, NAMES, save_untrained

_COMMAND = "import sys; from distcel.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_untrained(folder / "ensemble", ENSEMBLE_PARAMS)
    return folder


@pytest.fixture(scope="module")
def url(run_dir: Path) -> Iterator[str]:
    """Where the ensemble is served; the process is then asked to end, and does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _COMMAND, "serve", str(run_dir), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        if not first.startswith(f"http://127.0.0.1:{port}/predict answers; "):
            pytest.fail(first + process.communicate()[1])
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 128 + signal.SIGTERM, error
        assert error.startswith("SIGTERM: stopping\n")  # there is no run to continue
    finally:
        process.kill()


def answer(url: str, content: bytes | None = None) -> tuple[int, Any]:
    """Status and JSON of the answer to a GET, or to a POST with the content."""
    try:
        with urlopen(url, content, timeout=60) as found:
            return found.status, json.load(found)
    except HTTPError as error:
        return error.code, json.load(error)


def test_images_that_are_sent_at_once_each_have_their_own_answer(
    url: str, run_dir: Path, tmp_path: Path
) -> None:
    data.write_images(tmp_path / "photos", NAMES, 8, 3, 40, 0)
    paths = sorted((tmp_path / "photos").rglob("*.png"))
    explain = [i % 2 == 1 for i in range(len(paths))]
    urls = [f"{url}/predict?explain=1" if one else f"{url}/predict" for one in explain]
    with ThreadPoolExecutor(len(paths)) as pool:
        found = list(pool.map(answer, urls, [path.read_bytes() for path in paths]))
    expected = answers(load_ensemble(run_dir), paths, explain=True)
    for (status, given), own, explained in zip(found, expected, explain, strict=True):
        assert status == 200
        assert given["probability"] == pytest.approx(own["probability"], abs=1e-5)
        assert ("learners" in given) == explained
        for one, other in zip(given.get("learners", []), own["learners"], strict=False):
            assert (one["name"], one["class"]) == (other["name"], other["class"])
    assert len({given["probability"] for _, given in found}) > 1
    assert {len(given["learners"]) for _, given in found if "learners" in given} == {2}


def test_what_is_no_image_is_refused_with_the_rule(url: str) -> None:
    rule = "expected the bytes of an image file, but got 8 bytes (no image): send a PNG or JPEG"
    status, found = answer(f"{url}/predict", b"no image")
    assert (status, found) == (422, {"detail": f"{rule} file"})
    status, found = answer(f"{url}/predict", bytes(64 * 2**20 + 1))
    assert status == 422
    assert found["detail"].startswith("expected an image file of at most 67108864 bytes, but got ")
    assert answer(f"{url}/predict?explain=maybe", b"no image")[0] == 422
    assert answer(f"{url}/predict")[0] == 405


def test_health_is_what_is_served(url: str) -> None:
    what = {"class_names": list(NAMES), "image_shape": [3, 16, 16], "n_learners": 6, "k": 2}
    assert answer(f"{url}/health") == (200, {"status": "ok", **what})


def test_the_requests_are_described(url: str) -> None:
    _, described = answer(f"{url}/openapi.json")
    assert described["info"] == {"title": "distcel", "version": distcel.__version__}
    body = described["paths"]["/predict"]["post"]["requestBody"]
    assert list(body["content"]) == ["application/octet-stream"]  # a file can be chosen on the page


def test_bad_flags_are_one_line(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, message in (
            (["none"], "expected a folder with ensemble.json"),
            (
                [str(run_dir), "--port", port],
                f"a free --port of this --host, but got 127.0.0.1:{port}",
            ),
            ([str(run_dir), "--port", "0"], "expected a --port of 1 to 65535, but got 0"),
            ([str(run_dir), "--replicas", "0"], "a whole number replicas >= 1, but got 0"),
        ):
            assert main(["serve", *words]) == 2
            error = capsys.readouterr().err
            assert error.startswith("error: ")
            assert message in error
            assert error.count("\n") == 1


def test_without_the_extra_it_names_it(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert main(["serve", str(run_dir), "--port", str(port)]) == 2
    remedy = "pip install 'distcel[serve]'"
    expected = f"error: expected the packages of Ray Serve, but got not all of them: {remedy}\n"
    assert capsys.readouterr().err == expected
