"""Follows artifacts that were moved together with their database, which MLflow itself cannot do."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from distcel.tracking.database import database_path

_PLACES = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_SECONDS = 30.0  # of waiting for another process that writes to the database


def move_artifacts(uri: str, experiment_id: str, artifacts: Path) -> None:
    """Let an experiment, and the runs and models that moved, have their artifacts in this folder.

    MLflow writes absolute paths into its database, and has no call that changes them. This is for
    the database `mlflow.db` beside run directories alone, whose artifacts are in the same folder:
    with the folder moved or copied, MLflow would read and write at the old place. A run or a
    model stays where it was if its artifacts are there and not here.

    Args:
        uri: the tracking URI.
        experiment_id: the experiment.
        artifacts: the folder of the artifacts, beside the run directories.
    """
    database = artifacts.resolve().parent / "mlflow.db"
    if not uri.startswith("sqlite:") or database_path(uri) != database:
        return
    here = artifacts.resolve().as_uri()
    with closing(sqlite3.connect(database, timeout=_SECONDS)) as connection, connection:
        (there,) = connection.execute(
            "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (experiment_id,)
        ).fetchone()
        if there == here or not there.endswith(f"/{artifacts.name}"):
            return
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
            (here, experiment_id),
        )
        for table, column in _PLACES:
            rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
            moved = [
                (new, row)
                for row, old in rows
                if (old or "").startswith(f"{there}/")
                and _is_at(new := here + old.removeprefix(there), old)
            ]
            connection.executemany(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", moved)


def _is_at(new: str, old: str) -> bool:
    """Whether the artifacts are at the new place, or there are none of it at either."""
    return _folder(new).exists() or not _folder(old).exists()


def _folder(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path))
