"""The options of a launch beside the experiment, their checks, and the titles of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distcel.experiment.architecture import OwnArchitecture
from distcel.experiment.errors import (
    invalid,
    require,
    require_choice,
    require_count,
    require_positive,
)
from distcel.experiment.learner_sets import Clients
from distcel.experiment.loading import ARRAYS, load_experiment
from distcel.experiment.types import Experiment, SelectorSplit

if TYPE_CHECKING:
    from distcel.data.in_memory import InMemory

OWN_PRESET = "own"  # stands for the preset of an Experiment that is not one of a data set
_TRACKING = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


@dataclass(frozen=True)
class Options:
    """The options of a launch beside the experiment.

    Attributes:
        preset: name of the experiment's preset, for titles.
        data_dir: the folder of the data set.
        run_dir: the folder for all files of the run.
        seed: seeds the valid split, the networks, the layer's noise and the search.
        num_samples: trials in all; None takes the experiment's number.
        time_budget: seconds for the search; None sets no limit.
        mlflow_uri: absolute tracking URI; `none` for no tracking.
        register: name under which MLflow's model registry gets the ensemble; None registers none.
        imagenet_weights: initial weights, as `pretrained.imagenet_weights` takes them.
        fixed: hyperparameters that are not searched, with their values.
        selector_split: what the selection net, and whatever else is fitted on train, is trained on.
        prune: whether `ensemble/` has only the learners that are selected for a sample of valid.
        images: the data set where it is in memory, in place of `data_dir`.
    """

    preset: str
    data_dir: Path
    run_dir: Path
    seed: int
    num_samples: int | None
    time_budget: float | None
    mlflow_uri: str
    imagenet_weights: str = "published"
    fixed: Mapping[str, Any] = field(default_factory=dict)
    selector_split: SelectorSplit = "train"
    register: str | None = None
    prune: bool = False
    images: InMemory | None = None


def choose(
    experiment: str | Experiment,
    *,
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    preset: str = "quick",
    data_dir: str | Path = "data",
    run_dir: str | Path | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    time_budget: float | None = None,
    fixed: Mapping[str, Any] | None = None,
    selector_split: SelectorSplit = "train",
    imagenet_weights: str = "published",
    mlflow_uri: str | None = None,
    register: str | None = None,
    prune: bool = False,
) -> tuple[Experiment, Options]:
    """Check the arguments of `fit` and return the experiment and the options that they choose.

    Raises:
        InvalidInputError: an argument is unusable.
    """
    if num_samples is not None:
        require_count("num_samples", num_samples)
    if time_budget is not None:
        require_positive("time_budget", time_budget)
    require(0 <= seed < 2**31, "0 <= seed < 2^31", seed, "give another seed")
    require_choice("selector_split", selector_split, SelectorSplit)
    if isinstance(experiment, Experiment):
        chosen, preset = experiment, OWN_PRESET
    else:
        chosen = load_experiment(experiment, preset)
    folder = Path(run_dir or f"runs/{run_name(chosen.dataset, preset, selector_split)}-seed{seed}")
    folder = folder.absolute()
    uri = tracking_uri(mlflow_uri, folder)
    if register is not None:
        _require_registrable(register, uri, chosen)
    options = Options(
        preset=preset,
        data_dir=Path(data_dir),
        run_dir=folder,
        seed=seed,
        num_samples=num_samples,
        time_budget=time_budget,
        mlflow_uri=uri,
        imagenet_weights=imagenet_weights,
        fixed=dict(fixed or {}),
        selector_split=selector_split,
        register=register,
        prune=prune,
        images=_images(experiment, X, y, X_test, y_test),
    )
    return chosen, options


def _images(
    experiment: str | Experiment, X: Any, y: Any, X_test: Any, y_test: Any
) -> InMemory | None:
    """The images that the caller has, if any; their experiment is one's own, or `arrays`."""
    others = [one for one in (y, X_test, y_test) if one is not None]
    require(X is not None or not others, "X beside y, X_test and y_test", X, "give X")
    if X is None:
        rule = f"images as X for the data set {ARRAYS}"
        require(experiment != ARRAYS, rule, X, "give fit(X=, y=), or name another data set")
        return None
    own = experiment == ARRAYS or isinstance(experiment, Experiment)
    rule = f"the data set {ARRAYS} or an Experiment beside X"
    require(own, rule, experiment, "leave one of them out")
    from distcel.data.in_memory import in_memory

    return in_memory(X, y, X_test, y_test)


def tracking_uri(given: str | None, run_dir: Path) -> str:
    """The tracking URI: the given one, else MLFLOW_TRACKING_URI, else that of the run's database.

    Args:
        given: `--mlflow-uri` or `mlflow_uri`; None if there is none.
        run_dir: the absolute run directory, beside which the database `mlflow.db` is.

    Raises:
        InvalidInputError: MLflow cannot log to it, or the given one has a password.
    """
    if given is not None:
        _require_no_password(given)
    if uri := given or os.environ.get("MLFLOW_TRACKING_URI"):
        _require_tracking_uri(uri, "an MLflow URI" if given else "an MLFLOW_TRACKING_URI")
        return uri
    # SQLAlchemy takes these two for its own; MLflow's command line reads the URI in the same way.
    database = str(run_dir.parent / "mlflow.db").replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{database}"


def _require_tracking_uri(uri: str, what: str) -> None:
    """Raise InvalidInputError unless MLflow can log to the URI, or it is `none`."""
    known = uri == "none" or uri.split(":")[0].split("+")[0] in _TRACKING
    # The URI itself is not repeated: it may contain a password.
    remedy = "give sqlite:////absolute/path.db, http://host:port or none"
    require(known, f"{what} beginning with one of {_TRACKING}", "another one", remedy)
    try:
        urlsplit(uri)
    except ValueError:
        raise invalid(f"{what} that can be parsed", "another one", remedy) from None


def _require_no_password(uri: str) -> None:
    """Raise InvalidInputError for a password: all users can read a command line, as Ray's jobs."""
    of_server = uri.startswith("http") and "@" in uri
    # A user name is no secret to a database, which has no other variables for it.
    of_database = re.match(r"(?!sqlite)[^:]+://([^@/:]*:[^@]*@|.*[?&]password=)", uri)
    remedy = "leave them out and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    if of_database and not of_server:
        remedy = "set MLFLOW_TRACKING_URI to it and leave the flag out"
    allowed = not (of_server or of_database)
    require(allowed, "an MLflow URI without user name and password", "one with them", remedy)


def _require_registrable(name: str, uri: str, experiment: Experiment) -> None:
    """Raise InvalidInputError unless MLflow can register the ensemble under the name."""
    allowed = name.strip(" .") != "" and not set(name) & set("/:'`\"")
    require(allowed, "a name for the model without / : and quotes", name, "give another one")
    rule = "an MLflow URI beside a model to register"
    require(uri != "none", rule, uri, "leave register out, or give a URI")
    network, rule = experiment.network, "a model to register whose architecture is distcel's own"
    own = isinstance(network, OwnArchitecture)
    require(not own, rule, network.name, "leave register out: MLflow could not load it")


def require_comparable(
    experiment: Experiment, selector_split: SelectorSplit, fixed: Mapping[str, Any], beyond: bool
) -> None:
    """Raise InvalidInputError for a run that cannot be compared with these rules.

    Args:
        experiment: has the learner sets.
        selector_split: what the selection net is trained on.
        fixed: hyperparameters that are not searched, with their values.
        beyond: whether further rules that the paper does not have are trained as well.
    """
    vote = fixed.get("vote")
    remedy = "leave it out; with beyond the learned vote is compared as well"
    require(vote != "learned", "a comparison without vote fixed to learned", vote, remedy)
    allowed = not beyond or compares_single_networks(experiment, selector_split)
    rule = "a comparison without beyond, or without selector split holdout"
    require(allowed, rule, "both", "leave one of them out")


def compares_single_networks(experiment: Experiment, selector_split: SelectorSplit) -> bool:
    """Whether a comparison has single networks, which are trained as the selection net is.

    On a holdout they would see far fewer samples than the ensemble. Beside federated clients that
    is the question, since their samples are theirs.
    """
    return selector_split != "holdout" or isinstance(experiment.learner_sets, Clients)


def run_name(dataset: str, preset: str, selector_split: str) -> str:
    """The name DATASET-PRESET[-SPLIT], without the split where it is train."""
    name = f"{dataset}-{preset}"
    return name if selector_split == "train" else f"{name}-{selector_split}"


def run_title(
    dataset: str, preset: str, selector_split: SelectorSplit, fixed: Mapping[str, Any]
) -> str:
    """The title that the runs of all seeds share, with the fixed hyperparameters."""
    title = f"{dataset}, preset {preset}"
    if selector_split != "train":
        title += f", selector split {selector_split}"
    return title + "".join(f", {name} = {value}" for name, value in fixed.items())


def reproduction_name(experiment: Experiment, options: Options) -> str:
    """The name of a reproduction's folder, DATASET-PRESET[-SPLIT][-NAME=VALUE]."""
    name = run_name(experiment.dataset, options.preset, options.selector_split)
    return name + "".join(f"-{key}={value}" for key, value in options.fixed.items())
