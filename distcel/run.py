"""What the façade offers: `fit` and what it returns, `compare` and `reproduce`.

There are no prints and no signal handlers here: the `distcel` logger reports, and a
KeyboardInterrupt leaves a run that the same call carries on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from distcel.experiment.errors import (
    invalid,
    require,
    require_choice,
    require_count,
    require_positive,
)
from distcel.experiment.types import Experiment, SelectionParams, SelectorSplit
from distcel.search.prepare import Options, Prepared, prepare
from distcel.storage.files import remove_partial_files, write_json
from distcel.storage.lock import run_lock

if TYPE_CHECKING:
    import pandas as pd

    from distcel.execute.jobs import Executor
    from distcel.serve.ensemble import Ensemble

logger = logging.getLogger(__name__)

ExecutorName = Literal["ray", "inline"]


@dataclass(frozen=True)
class Workers:
    """Where trainings run.

    Attributes:
        executor: `ray`, or `inline` for this process without Ray.
        address: of a running Ray cluster; None starts one on this machine.
        gpus_per_worker: share of a GPU for each worker, where there are GPUs.
        connected: called when Ray is connected, which puts signal handlers of its own in place.
    """

    executor: ExecutorName = "ray"
    address: str | None = None
    gpus_per_worker: float = 0.25
    connected: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        require_choice("executor", self.executor, ExecutorName)
        require_positive("gpus_per_worker", self.gpus_per_worker)

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """The executor, while the context is open."""
        if self.executor == "inline":
            from distcel.execute.inline import InlineExecutor

            yield InlineExecutor()
            return
        from distcel.execute.cluster import cluster_pool, connect
        from distcel.execute.ray_executor import RayExecutor

        with connect(self.address) as dashboard:
            self.connected()
            pool = cluster_pool(self.gpus_per_worker)
            logger.info("Ray: %d workers at once, dashboard %s", pool.size, dashboard)
            yield RayExecutor(pool)


class Run:
    """A run directory: what was found and where it lies.

    Args:
        run_dir: of a launch that `fit` or the command line made.
        experiment: that was run; None takes the shipped one that the run directory names.
    """

    def __init__(self, run_dir: str | Path, experiment: Experiment | None = None) -> None:
        self.run_dir = Path(run_dir).absolute()
        self._experiment = experiment

    def __repr__(self) -> str:
        return f"Run({str(self.run_dir)!r})"

    @cached_property
    def results(self) -> dict[str, Any]:
        """The content of `results.json`.

        Raises:
            InvalidInputError: there is none yet.
        """
        return _read_json(self.run_dir / "results.json", "a run that is finished")

    @property
    def best(self) -> SelectionParams:
        """The point of the search that is best on valid."""
        return SelectionParams.from_dict(self.results["best"])

    def leaderboard(self) -> pd.DataFrame:
        """Accuracy on test, as a fraction, of e2e-CEL and the rules that it is compared with."""
        import pandas as pd

        accuracy = pd.Series(self.results["accuracy"], name="accuracy")
        return accuracy.sort_values(ascending=False).rename_axis("rule").to_frame()

    def trials(self) -> pd.DataFrame:
        """A row a trial: its point, state, accuracy on valid, epochs, seconds and reason."""
        import pandas as pd

        from distcel.search.trials import TrialStore

        facts = _read_json(self.run_dir / "run.json", "a run directory")
        folder = self.run_dir / "search" / facts["search_key"] / "trials"
        rows = [
            {
                "trial": record.number,
                **record.params.as_dict(),
                "state": record.state,
                "valid_accuracy": record.valid_accuracy if record.epochs else None,
                "epochs": len(record.epochs),
                "seconds": record.seconds,
                "reason": record.reason,
            }
            for record in TrialStore(folder).snapshot()
        ]
        return pd.DataFrame(rows).set_index("trial") if rows else pd.DataFrame()

    @cached_property
    def ensemble(self) -> Ensemble:
        """The smart ensemble with its base learners."""
        from distcel.serve.ensemble import load_ensemble

        return load_ensemble(self.run_dir)


def load_run(run_dir: str | Path, experiment: Experiment | None = None) -> Run:
    """The run that a directory holds.

    Args:
        run_dir: of a launch.
        experiment: for `compare`, where it is none of the shipped ones.

    Raises:
        InvalidInputError: it is no run directory.
    """
    _read_json(Path(run_dir) / "run.json", "a run directory")
    return Run(run_dir, experiment)


def fit(
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
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
) -> Run:
    """Train the base learners, search the selection net's hyperparameters, measure test.

    What is done is not done again: the same call carries on where it was stopped.

    Args:
        experiment: name of a data set, or an Experiment of your own.
        preset: of the data set: `smoke` (seconds), `quick` (minutes) or `paper`.
        data_dir: the folder that holds the data.
        run_dir: where everything goes; None is `runs/DATASET-PRESET[-SPLIT]-seedN`.
        num_samples: trials in all; None takes the preset's.
        seed: of the valid split, the networks, the layer's noise and the search.
        time_budget: seconds for the search of this call; None sets no limit.
        fixed: hyperparameters that are not searched, with their values.
        selector_split: what the selection net is trained on: `train`, which the base learners have
            seen; `holdout`, a fifth of it kept from them; or `crossfit`, all of it, each third
            predicted by copies of the base learners that have not seen it.
        imagenet_weights: of ResNet18: `torchvision`, a file, or `none` for random weights.
        mlflow_uri: tracking server; None is `mlflow.db` beside the run directory, `none` is none.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.

    Raises:
        InvalidInputError: something that was given is unusable.
        RunFailedError: a base learner diverged, workers were lost over and over, or no trial is
            complete.
    """
    workers = workers or Workers(executor)
    chosen, options = choose(
        experiment,
        preset=preset,
        data_dir=data_dir,
        run_dir=run_dir,
        num_samples=num_samples,
        seed=seed,
        time_budget=time_budget,
        fixed=fixed,
        selector_split=selector_split,
        imagenet_weights=imagenet_weights,
        mlflow_uri=mlflow_uri,
    )
    with _prepared(chosen, options) as prepared, workers.open() as opened:
        from distcel import pipeline

        pipeline.launch(prepared, opened)
    return Run(options.run_dir, chosen)


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
    from distcel.experiment.loading import load_experiment

    if num_samples is not None:
        require_count("num_samples", num_samples)
    if time_budget is not None:
        require_positive("time_budget", time_budget)
    require(0 <= seed < 2**31, "0 <= seed < 2^31", seed, "give such a seed")
    require_choice("selector_split", selector_split, SelectorSplit)
    if isinstance(experiment, Experiment):
        chosen, preset = experiment, "own"
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


def run_name(dataset: str, preset: str, selector_split: str) -> str:
    """DATASET-PRESET, and the selector split where it is not train."""
    name = f"{dataset}-{preset}"
    return name if selector_split == "train" else f"{name}-{selector_split}"


@contextmanager
def _prepared(experiment: Experiment, options: Options) -> Iterator[Prepared]:
    """The validated launch, while its run directory is locked."""
    with run_lock(options.run_dir):
        remove_partial_files(options.run_dir)
        prepared = prepare(experiment, options)
        write_json(options.run_dir / "run.json", prepared.facts())
        yield prepared


def _read_json(path: Path, rule: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = f"{str(path.parent)!r}, without a {path.name} that can be read"
        raise invalid(rule, found, "give the run directory of a launch") from None
    return content
