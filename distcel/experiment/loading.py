"""The shipped experiments, by data set and preset: the modules of `distcel.search_spaces`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from distcel.experiment.errors import require

if TYPE_CHECKING:
    from distcel.experiment.types import Experiment

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "fer2013", "utkface", "folder")
PRESET_NAMES = ("smoke", "quick", "half_day", "paper")


def load_experiment(dataset: str, preset: str) -> Experiment:
    """The experiment of a data set at a preset.

    Raises:
        InvalidInputError: unknown data set, or a preset that it does not have.
    """
    require(dataset in DATASETS, f"--dataset in {DATASETS}", dataset, "choose one of these")
    presets: dict[str, Experiment] = import_module(f"distcel.search_spaces.{dataset}").PRESETS
    rule = f"--preset in {tuple(presets)}, those of {dataset}"
    require(preset in presets, rule, preset, "choose one of these")
    return presets[preset]
