"""Environment variables that other libraries read, set for a while; and a user's directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distcel.experiment.errors import invalid


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set those variables that the user has not set; they are unset again after the context."""
    ours = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def require_home() -> None:
    """Raise InvalidInputError if this user has no home directory.

    Ray keeps its token there, and Ray and MLflow look it up while they are imported.
    """
    try:
        Path.home()
    except RuntimeError:
        found = f"none for user id {os.getuid()}, and HOME is not set"
        raise invalid("a home directory", found, "set HOME to a folder of yours") from None


def require_current_folder() -> None:
    """Raise InvalidInputError if the current folder was removed: torch does not load there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        rule = "a current folder that exists"
        raise invalid(rule, "one that was removed", "change to another one") from None
