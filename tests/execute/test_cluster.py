"""A failure of Ray itself is reported in one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from distcel.execute.cluster import connect
from distcel.experiment.errors import RunFailedError


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # for the token
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", lambda **_: SimpleNamespace(dashboard_url=""))
    monkeypatch.setattr(ray, "shutdown", lambda: None)


def test_a_cluster_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(**_: object) -> None:
        raise Exception("The current node\n timed out")  # as Ray does

    monkeypatch.setattr(ray, "init", failing)
    with (
        pytest.raises(RunFailedError, match=r"start here \(The current node timed out\)") as failed,
        connect(None),
    ):
        pass
    require_kept_logs(str(failed.value))


@pytest.mark.parametrize("chosen", ["/scratch", None])
def test_temporary_files_of_ray_are_in_its_folder_or_where_the_user_wants_them(
    chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, str] = {}

    def noting(**_: object) -> SimpleNamespace:
        found.update(os.environ)
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setattr(ray, "init", noting)
    monkeypatch.delenv("TMPDIR", raising=False)
    if chosen:
        monkeypatch.setenv("TMPDIR", chosen)
    with connect(None):
        assert os.environ.get("TMPDIR") == chosen
    assert found["TMPDIR"] == (chosen or found["RAY_TMPDIR"])
    assert not Path(found["RAY_TMPDIR"]).exists()


def require_kept_logs(message: str) -> None:
    """The message ends with the folder of Ray's logs, which is left to the user."""
    folder = Path(message.rpartition("; Ray's logs are in ")[2])
    assert folder.is_dir()
    shutil.rmtree(folder)


def test_a_full_object_store_is_one_line_and_a_defect_keeps_its_traceback() -> None:
    with (
        pytest.raises(
            RunFailedError, match=r"Ray failed .*the same command continues the"
        ) as failed,
        connect(None),
    ):
        raise ray.exceptions.ObjectStoreFullError("full")
    require_kept_logs(str(failed.value))
    defect = ray.exceptions.RayTaskError("train", "traceback", ValueError("x"))
    with pytest.raises(ray.exceptions.RayTaskError), connect(None):
        raise defect
