import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from distcel.search.options import tracking_uri
from distcel.tracking.experiment import connect

KILLED_AT_A_STATEMENT = """
import itertools, os, sys
import sqlalchemy
from distcel.tracking.experiment import connect

numbers = itertools.count(1)

@sqlalchemy.event.listens_for(sqlalchemy.Engine, "before_cursor_execute")
def kill(*_):
    if next(numbers) == 200:
        os._exit(9)

connect(sys.argv[1]).search_experiments()
"""


def test_a_kill_while_mlflow_makes_its_database_leaves_none(tmp_path: Path) -> None:
    (runs := tmp_path / "a%2Fb?c").mkdir()
    uri = tracking_uri(None, runs / "run")
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_A_STATEMENT, uri])
    assert killed.returncode == 9
    assert not any(runs.iterdir())
    (default,) = connect(uri).search_experiments()
    assert default.name == "Default"
    assert [path.name for path in runs.iterdir()] == ["mlflow.db"]


def test_a_database_that_cannot_be_opened_is_not_waited_for(tmp_path: Path) -> None:
    (folder := tmp_path / "mlflow.db").mkdir()
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect(tracking_uri(None, tmp_path / "run"))
    assert folder.is_dir()
