"""One file a data set: its recipes, its search space, and trial 0 with the paper's k.

Each module exports PRESETS, a mapping from `smoke`, `quick` and `paper` to an Experiment.
Importing this package loads none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from distcel.experiment.errors import require

if TYPE_CHECKING:
    from distcel.experiment.types import Experiment

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "fer2013", "utkface", "folder")
PRESET_NAMES = ("smoke", "quick", "paper")


def load_experiment(dataset: str, preset: str) -> Experiment:
    """The experiment of a data set at a preset.

    Raises:
        InvalidInputError: unknown data set or preset.
    """
    require(dataset in DATASETS, f"--dataset in {DATASETS}", dataset, "choose one of these")
    require(preset in PRESET_NAMES, f"--preset in {PRESET_NAMES}", preset, "choose one of these")
    experiment: Experiment = import_module(f"search_spaces.{dataset}").PRESETS[preset]
    return experiment
