"""What a launch chooses beside the experiment, and what its run is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distcel.experiment.errors import require, require_choice, require_count, require_positive
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, SelectorSplit

OWN_PRESET = "own"  # of an Experiment that is no preset of a data set


@dataclass(frozen=True)
class Options:
    """What a launch chooses beside the experiment.

    Attributes:
        preset: name of the experiment's preset, for titles.
        data_dir: where the data are.
        run_dir: where everything that is made goes.
        seed: of the valid split, the networks, the layer's noise and the search.
        num_samples: trials in all; None takes the experiment's.
        time_budget: seconds for the search; None sets no limit.
        mlflow_uri: absolute tracking URI; `none` for no tracking.
        imagenet_weights: where a ResNet18 starts from, as `networks.imagenet_weights` takes it.
        fixed: hyperparameters that are not searched.
        selector_split: what the selection net, and whatever else is fitted on train, is trained on.
    """

    preset: str
    data_dir: Path
    run_dir: Path
    seed: int
    num_samples: int | None
    time_budget: float | None
    mlflow_uri: str
    imagenet_weights: str = "torchvision"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    selector_split: SelectorSplit = "train"


def choose(
    experiment: str | Experiment,
    *,
    preset: str = "quick",
    data_dir: str | Path = "data",
    run_dir: str | Path | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    time_budget: float | None = None,
    fixed: Mapping[str, Any] | None = None,
    selector_split: SelectorSplit = "train",
    imagenet_weights: str = "torchvision",
    mlflow_uri: str | None = None,
) -> tuple[Experiment, Options]:
    """The experiment and the options that the arguments of `fit` choose, found valid.

    Raises:
        InvalidInputError: something is unusable.
    """
    if num_samples is not None:
        require_count("num_samples", num_samples)
    if time_budget is not None:
        require_positive("time_budget", time_budget)
    require(0 <= seed < 2**31, "0 <= seed < 2^31", seed, "give such a seed")
    require_choice("selector_split", selector_split, SelectorSplit)
    if isinstance(experiment, Experiment):
        chosen, preset = experiment, OWN_PRESET
    else:
        chosen = load_experiment(experiment, preset)
    folder = Path(run_dir or f"runs/{run_name(chosen.dataset, preset, selector_split)}-seed{seed}")
    folder = folder.absolute()
    options = Options(
        preset=preset,
        data_dir=Path(data_dir),
        run_dir=folder,
        seed=seed,
        num_samples=num_samples,
        time_budget=time_budget,
        mlflow_uri=mlflow_uri or f"sqlite:///{folder.parent / 'mlflow.db'}",
        imagenet_weights=imagenet_weights,
        fixed=dict(fixed or {}),
        selector_split=selector_split,
    )
    return chosen, options


def require_comparable(
    selector_split: SelectorSplit, fixed: Mapping[str, Any], beyond: bool
) -> None:
    """Raise InvalidInputError for what a comparison can't be of.

    Args:
        selector_split: what the selection net is trained on.
        fixed: hyperparameters that are not searched.
        beyond: whether the rules that the paper does not have are trained as well.
    """
    rule, remedy = "no --fix vote=learned beside --seeds", "--beyond has it, beside the paper's"
    require(fixed.get("vote") != "learned", rule, "both", remedy)
    # A single network would be trained on the holdout alone, which is no rival.
    both = beyond and selector_split == "holdout"
    require(
        not both, "no --beyond beside --selector-split holdout", "both", "leave one of them out"
    )


def run_name(dataset: str, preset: str, selector_split: str) -> str:
    """DATASET-PRESET, and the selector split where it is not train."""
    name = f"{dataset}-{preset}"
    return name if selector_split == "train" else f"{name}-{selector_split}"


def run_title(
    dataset: str, preset: str, selector_split: SelectorSplit, fixed: Mapping[str, Any]
) -> str:
    """What the runs of all seeds are called, with what is not searched."""
    title = f"{dataset}, preset {preset}"
    if selector_split != "train":
        title += f", selector split {selector_split}"
    return ", ".join([title, *(f"{name} = {value}" for name, value in fixed.items())])


def reproduction_name(experiment: Experiment, options: Options) -> str:
    """DATASET-PRESET[-SPLIT][-NAME=VALUE], what a reproduction's folder is called."""
    name = run_name(experiment.dataset, options.preset, options.selector_split)
    return "-".join([name, *(f"{key}={value}" for key, value in options.fixed.items())])
