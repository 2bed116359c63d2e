"""Settings in a TOML file that change a shipped experiment, as `--config` has it."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import InvalidInputError, invalid, require
from distcel.experiment.learner_sets import Clients
from distcel.experiment.types import Experiment, Recipe

_VALUES = (
    "image_size",
    "specialty_share",
    "num_samples",
    "k",
    "holdout_share",
    "valid_share",
    "test_share",
    "max_samples",
)
_RECIPES = ("learner_recipe", "selector_recipe")
_KEYS = (*_VALUES, "architecture", *_RECIPES, "learner_sets")


def configured(experiment: Experiment, path: Path) -> Experiment:
    """The experiment with the settings of a TOML file in place of its own.

    The keys are fields of `Experiment`. A recipe's table changes the fields that it names; an
    architecture's is a whole one. `learner_sets` is `specialists`, `singles`, a list of lists of
    class names, or a table `dirichlet` with the fields of `Clients`.

    Raises:
        InvalidInputError: the file is unreadable, or has an unknown key or an unusable value; the
            message names the file.
    """
    settings = _read(path)
    try:
        return _changed(experiment, settings)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        found = f"{str(path)!r} ({reason})"
        raise invalid("a readable TOML file as config", found, "give another, or mend it") from None


def _changed(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    _require_known("keys", settings, _KEYS)
    changes = dict(settings)
    for name in _RECIPES:
        if name in changes:
            names = [field.name for field in fields(Recipe)]
            table = _table(name, changes[name], names)
            changes[name] = replace(getattr(experiment, name), **table)
    if "architecture" in changes:
        table = _table("architecture", changes["architecture"], ("family", "channels"))
        channels = table.get("channels", [])
        require(isinstance(channels, list), "a list as channels", channels, "give such as [6, 16]")
        changes["architecture"] = Architecture(table.get("family", ""), tuple(channels))
    if isinstance(changes.get("learner_sets"), dict):
        changes["learner_sets"] = _clients(changes["learner_sets"])
    note = f"Changed by a config: {_shown(settings)}."
    return replace(experiment, **changes, note=f"{experiment.note} {note}".strip())


def _clients(table: Mapping[str, Any]) -> Clients:
    _require_known("keys of learner_sets", table, ("dirichlet",))
    names = ("n", "alpha")
    clients = _table("learner_sets.dirichlet", table.get("dirichlet"), names)
    missing = [name for name in names if name not in clients]
    require(not missing, f"learner_sets.dirichlet with {names}", clients, f"add {missing}")
    return Clients(**clients)


def _table(name: str, value: object, known: Collection[str]) -> dict[str, Any]:
    require(isinstance(value, dict), f"a table as {name}", value, f"give it keys of {tuple(known)}")
    assert isinstance(value, dict), "just checked"
    _require_known(f"keys of {name}", value, known)
    return value


def _require_known(what: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = [key for key in table if key not in known]
    require(not unknown, f"{what} among {tuple(known)}", unknown, "correct or remove them")


def _shown(settings: Mapping[str, Any], prefix: str = "") -> str:
    """The settings in one line, as NAME = VALUE."""
    parts = []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        parts.append(
            _shown(value, f"{name}.") if isinstance(value, dict) else f"{name} = {value!r}"
        )
    return ", ".join(parts)
