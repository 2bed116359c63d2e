"""Folders that are replaced as a whole: the earlier one or the new one is always there.

No call exchanges two folders on every file system. The earlier one is therefore renamed to
`.previous-NAME-N` before the new one takes its name. A launch that is killed between the two leaves
no folder of that name, which `mend_folders` puts right.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distcel.storage.files import PARTIAL, sync_names

logger = logging.getLogger(__name__)

_PREVIOUS = ".previous-"


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields a new folder to write into, which takes the place of `folder` when the context ends.

    What was there stays if the context raises. A link is replaced as a file is: what it leads to
    stays. What of the earlier folder cannot be removed is logged.
    """
    new = folder.with_name(f"{PARTIAL}{folder.name}")
    if new.exists():
        shutil.rmtree(new)
    new.mkdir(parents=True)
    try:
        yield new
        if os.path.lexists(folder):
            numbers = [number for number, _ in _previous(folder.parent, folder.name)]
            number = max(numbers, default=0) + 1
            folder.rename(folder.with_name(f"{_PREVIOUS}{folder.name}-{number}"))
        new.rename(folder)
        sync_names(folder.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        mend_folders(folder.parent, folder.name)


def mend_folders(parent: Path, name: str) -> None:
    """Undo a replacement of the folder `name` that was interrupted, or finish it."""
    folder, previous = parent / name, _previous(parent, name)
    if previous and not os.path.lexists(folder):
        previous[-1][1].rename(folder)
        sync_names(parent)
    for _, path in _previous(parent, name):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            logger.warning("%s is an earlier %s; remove it (%s)", path, name, reason)


def _previous(parent: Path, name: str) -> list[tuple[int, Path]]:
    """The earlier folders of this name that were renamed, numbered, the last one at the end."""
    pattern = re.compile(rf"{re.escape(_PREVIOUS + name)}-(\d+)")
    found = ((pattern.fullmatch(path.name), path) for path in parent.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)
