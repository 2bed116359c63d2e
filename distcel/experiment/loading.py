"""The shipped experiments, by data set and preset: the modules of `distcel.search_spaces`."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from distcel.experiment.errors import require

if TYPE_CHECKING:
    from distcel.experiment.types import Experiment

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "fer2013", "utkface", "folder")
ARRAYS = "arrays"  # stands for the data set where `fit` is given images
PRESET_NAMES = ("smoke", "quick", "half_day", "paper")


def load_experiment(
    dataset: str, preset: str = "quick", config: str | Path | None = None
) -> Experiment:
    """The experiment of a data set at a preset.

    Args:
        dataset: the name of the data set; `arrays`, for images that `fit` is given, has the presets
            of `folder` without its image size.
        preset: the name of the preset.
        config: a TOML file of settings in place of the preset's, as docs/your-own.md has it.

    Raises:
        InvalidInputError: unknown data set, a preset that it does not have, or an unusable config.
    """
    in_memory = dataset == ARRAYS
    known = in_memory or dataset in DATASETS
    require(known, f"--dataset in {DATASETS}", dataset, "choose one of these")
    file = "folder" if in_memory else dataset
    presets: dict[str, Experiment] = import_module(f"distcel.search_spaces.{file}").PRESETS
    rule = f"--preset in {tuple(presets)}, those of {dataset}"
    require(preset in presets, rule, preset, "choose one of these")
    chosen = presets[preset]
    if in_memory:
        chosen = replace(chosen, dataset=ARRAYS, image_size=None)
    if config is None:
        return chosen
    from distcel.experiment.config import configured

    return configured(chosen, Path(config))
