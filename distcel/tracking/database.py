"""MLflow's sqlite database, which appears whole or not at all.

MLflow makes one in place, by several dozen migrations, and can't open one whose making was
interrupted.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote

from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from distcel.storage.files import write_new


def database_path(uri: str) -> Path:
    """The file of a URI `sqlite:///PATH`."""
    return Path(unquote(uri.partition(":///")[2].partition("?")[0])).resolve()


def make_database(uri: str) -> None:
    """Make the database of a URI `sqlite:////PATH` if it is missing; other URIs are left alone.

    It is made in a temporary folder. One that another process puts in place meanwhile stays.

    Raises:
        sqlite3.Error: there is none that can be opened; MLflow would try for minutes.
    """
    if not uri.startswith("sqlite:////") or "?" in uri:
        return
    path = database_path(uri)
    if not path.exists():
        _make(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA schema_version")


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "mlflow.db"
        store = SqlAlchemyStore(f"sqlite:///{aside}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()
        with suppress(OSError):  # no hard links there: MLflow then makes it in place
            write_new(path, aside.read_bytes())
