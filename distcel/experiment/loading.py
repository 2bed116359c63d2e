"""The shipped experiments, by data set and preset: the modules of `distcel.search_spaces`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from distcel.experiment.errors import require

if TYPE_CHECKING:
    from distcel.experiment.types import Experiment

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "fer2013", "utkface", "folder")
PRESET_NAMES = ("smoke", "quick", "half_day", "paper")


def load_experiment(
    dataset: str, preset: str = "quick", config: str | Path | None = None
) -> Experiment:
    """The experiment of a data set at a preset.

    Args:
        dataset: the name of the data set.
        preset: the name of the preset.
        config: a TOML file of settings in place of the preset's, as docs/your-own.md has it.

    Raises:
        InvalidInputError: unknown data set, a preset that it does not have, or an unusable config.
    """
    require(dataset in DATASETS, f"--dataset in {DATASETS}", dataset, "choose one of these")
    presets: dict[str, Experiment] = import_module(f"distcel.search_spaces.{dataset}").PRESETS
    rule = f"--preset in {tuple(presets)}, those of {dataset}"
    require(preset in presets, rule, preset, "choose one of these")
    if config is None:
        return presets[preset]
    from distcel.experiment.config import configured

    return configured(presets[preset], Path(config))
