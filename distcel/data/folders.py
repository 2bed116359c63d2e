"""Folders of images, one a class."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from distcel.data.formats import Pool, Source, file_pool
from distcel.data.images import FORMATS, by_suffix, image_files
from distcel.experiment.errors import invalid, require
from distcel.experiment.names import printable

logger = logging.getLogger(__name__)

_OTHER_SPLITS = {"val", "valid", "validation", "training", "testing"}
# Folders that file systems, archives and launches add; without images they are no empty classes.
_NO_CLASSES = {"lost+found", "__MACOSX", "runs"}


def image_folders(folder: Path, mode: str, class_names: tuple[str, ...] | None) -> Source | None:
    """Read `{train,test}/<class>/*`, or `<class>/*` if the class names are not given.

    A class has the name of its folder, with escapes in place of control characters. What is skipped
    is logged.

    Returns:
        Source: the samples; None if the folder has no such subfolders.

    Raises:
        InvalidInputError: a folder has the name of another class or split, one is missing, two
            differ in capitals alone, or a class has no image.
    """
    children = _subfolders(folder, class_names is None)
    if "train" in children:
        train, test = (_files_by_class(children.get(name)) for name in ("train", "test"))
        if class_names is not None:
            rule = "images in train and in test"
            require(bool(train and test), rule, str(folder), "get the whole data set")
    elif class_names is None:
        train, test = _files_by_class(folder), {}
    else:
        return None
    if not train:
        return None
    names = class_names or tuple(train)
    unknown = sorted((set(train) | set(test)) - set(names))
    require(not unknown, f"classes among {names}", unknown, f"rename them in {folder}")

    def pool(files: dict[str, list[Path]]) -> Pool:
        labelled = [(path, c) for c, name in enumerate(names) for path in files.get(name, [])]
        labels = np.array([label for _, label in labelled], np.int64)
        return file_pool(folder, [path for path, _ in labelled], labels, mode)

    return Source(names, pool(train), pool(test) if test else None)


def _subfolders(folder: Path, may_be_classes: bool) -> dict[str, Path]:
    """The subfolders by their names in small letters, of which `train` and `test` are splits."""
    found = sorted(child for child in folder.iterdir() if child.is_dir())
    for split in ("train", "test"):
        spelled = [child.name for child in found if child.name.lower() == split]
        remedy = f"join them in {folder}, or rename one"
        require(len(spelled) < 2, f"one folder for {split}", spelled, remedy)
    children = {child.name.lower(): child for child in found}
    _require_no_other_split(folder, set(children), may_be_classes)
    return children


def _require_no_other_split(folder: Path, children: set[str], may_be_classes: bool) -> None:
    others = sorted(_OTHER_SPLITS & children)
    if others and ("train" in children or children <= _OTHER_SPLITS | {"test"}):
        remedy = f"rename them in {folder}; the valid split is drawn from train"
        raise invalid("split folders named train and test", repr(others), remedy)
    if may_be_classes and "test" in children and "train" not in children:
        remedy = f"add train to {folder}, or rename test if it is a class"
        raise invalid("train beside test", repr(sorted(children)), remedy)


def _files_by_class(folder: Path | None) -> dict[str, list[Path]]:
    """The image files of each subfolder, by the name of its class; logs what is skipped.

    Raises:
        InvalidInputError: a subfolder has no image, or two have the same name once it is escaped.
    """
    if folder is None:
        return {}
    files: dict[str, list[Path]] = {}
    skipped: list[Path] = []
    for child in sorted(child for child in folder.iterdir() if not child.name.startswith(".")):
        if not child.is_dir():
            skipped.append(child)
            continue
        images, others = image_files(child)
        skipped += others
        if not images and child.name in _NO_CLASSES:
            continue
        if not images:
            found = f"{str(child)!r} with {by_suffix(others) or 'no file'}"
            remedy = f"add {', '.join(FORMATS)} images, or remove the folder"
            raise invalid("images in every class's folder", found, remedy)
        name = printable(child.name)
        require(name not in files, "one folder a class", name, f"rename one in {folder}")
        files[name] = images
    if skipped:
        text = "skipped %d files in %r, in no class's folder or of a suffix that is not read: %s"
        logger.warning(text, len(skipped), str(folder), by_suffix(skipped))
    return files
