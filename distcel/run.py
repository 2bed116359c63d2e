"""What the façade offers: `fit` and what it returns, `compare` and `reproduce`.

There are no prints and no signal handlers here: the `distcel` logger reports, and a
KeyboardInterrupt leaves a run that the same call carries on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import invalid, require, require_count
from distcel.experiment.types import Experiment, SelectionParams, SelectorSplit
from distcel.search.options import OWN_PRESET, Options, choose, reproduction_name
from distcel.storage.files import remove_partial_files, write_json
from distcel.storage.lock import run_lock

if TYPE_CHECKING:
    import pandas as pd

    from distcel.search.prepare import Prepared
    from distcel.serve.ensemble import Ensemble

_OWN = "give load_run(run_dir, experiment=...)"


class Run:
    """A run directory: what was found and where it lies.

    Args:
        run_dir: of a launch that `fit` or the command line made.
        experiment: that was run; None takes the shipped one that the run directory names.
    """

    def __init__(self, run_dir: str | Path, experiment: Experiment | None = None) -> None:
        self.run_dir = Path(run_dir).absolute()
        self.experiment = experiment

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
        """Accuracy on test, as a fraction, of e2e-CEL and the rules that it is compared with.

        After `compare` it has every rule, with its expected calibration error.
        """
        from distcel.report.tables import leaderboard

        path = self.run_dir / "comparison.json"
        comparison = _read_json(path, "a comparison") if path.is_file() else None
        return leaderboard(self.results, comparison)

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
    pipeline = _load_stages(workers, options.mlflow_uri)
    with _prepared(chosen, options) as prepared, workers.open() as opened:
        pipeline.launch(prepared, opened)
    return Run(options.run_dir, chosen)


def compare(
    run: Run,
    *,
    data_dir: str | Path | None = None,
    beyond: bool = False,
    gradients: bool = False,
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
) -> pd.DataFrame:
    """Compare what a finished run chose with every rival, on the test split.

    Trains the smart ensemble at each k of Figure 2. What is trained is kept in the run directory,
    and the whole comparison in `comparison.json`.

    Args:
        run: as `fit` or `load_run` returned it.
        data_dir: where the data are now; None is where the launch found them.
        beyond: also train what the paper does not have: the learned vote, soft gating,
            straight-through top-k and single networks.
        gradients: also train the best trial with each gradient.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.

    Returns:
        DataFrame: `Run.leaderboard`, now with every rule.

    Raises:
        InvalidInputError: the run is not finished, or its experiment is not known any more.
        RunFailedError: workers were lost over and over.
    """
    facts = _read_json(run.run_dir / "run.json", "a run directory")
    asked, found = (facts["fixed"], facts["selector_split"]), run.results
    same = asked == (found["fixed"], found["selector_split"])
    require(same, "a run whose last launch has finished", str(run.run_dir), "call fit again")
    own = facts["preset"] == OWN_PRESET
    if own:
        require(run.experiment is not None, "the experiment of a run of your own", None, _OWN)
    chosen, options = choose(
        run.experiment or facts["dataset"],
        preset=facts["preset"],
        data_dir=data_dir or facts["data_dir"],
        run_dir=run.run_dir,
        num_samples=facts["num_samples"],
        seed=facts["seed"],
        fixed=facts["fixed"],
        selector_split=facts["selector_split"],
        imagenet_weights=facts["imagenet_weights"],
    )
    workers = workers or Workers(executor)
    _load_stages(workers, "none")
    from distcel.evaluate.compare import compare_run

    with _prepared(chosen, options) as prepared, workers.open() as opened:
        comparison = compare_run(prepared, opened, beyond, gradients)
        write_json(run.run_dir / "comparison.json", comparison)
    return run.leaderboard()


@dataclass(frozen=True)
class Reproduction:
    """The paper's evaluation over several seeds: where it lies, and all of its numbers."""

    folder: Path
    results: dict[str, Any]


def reproduce(
    experiment: str | Experiment,
    *,
    seeds: int = 3,
    beyond: bool = False,
    gradients: bool = False,
    results_dir: str | Path | None = None,
    results_pages: str | Path | None = None,
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
    command: str = "distcel.reproduce",
    **options: Any,
) -> Reproduction:
    """The paper's evaluation over several seeds: Tables 1 to 3, Figure 2 and further rules.

    Each seed is a `fit` and a `compare`. What is done is not done again.

    Args:
        experiment: as `fit` takes it.
        seeds: how many, from 0.
        beyond: as `compare` takes it.
        gradients: likewise.
        results_dir: for report, results and figures; None is
            `runs/reproduce-DATASET-PRESET[-SPLIT][-FIXED]`.
        results_pages: a folder of result pages that it is added to.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.
        command: what the report prints as the command that makes it.
        options: others that `fit` takes, but for `seed` and `run_dir`.

    Raises:
        InvalidInputError: something that was given is unusable.
        RunFailedError: as for `fit`.
    """
    require_count("seeds", seeds)
    pairs = [choose(experiment, seed=seed, **options) for seed in range(seeds)]
    workers = workers or Workers(executor)
    pipeline = _load_stages(workers, pairs[0][1].mlflow_uri)
    with ExitStack() as stack:
        every = [stack.enter_context(_prepared(*pair)) for pair in pairs]
        opened = stack.enter_context(workers.open())
        found = [pipeline.launch_and_compare(one, opened, beyond, gradients) for one in every]
    first = every[0]
    return _written(first, {"command": command, "seeds": found}, results_dir, results_pages)


def _written(
    first: Prepared,
    results: dict[str, Any],
    results_dir: str | Path | None,
    results_pages: str | Path | None,
) -> Reproduction:
    """Write the files of a reproduction and log it."""
    from distcel import pipeline

    name = reproduction_name(first.experiment, first.options)
    folder = Path(results_dir or f"runs/reproduce-{name}").absolute()
    pipeline.report_reproduction(first, results, folder)
    if results_pages is not None:
        from distcel.report.results_page import add_reproduction

        add_reproduction(Path(results_pages), folder, name)
    return Reproduction(folder, results)


def _load_stages(workers: Workers, mlflow_uri: str) -> ModuleType:
    """Import what the stages use: a run takes hours, and the files may be edited meanwhile.

    Returns:
        ModuleType: `distcel.pipeline`.
    """
    names = ["distcel.pipeline", "distcel.report.results_page"]
    names += ["distcel.search.tune"] if workers.executor == "ray" else ["distcel.search.inline"]
    names += [] if mlflow_uri == "none" else ["distcel.tracking.mlflow"]
    modules = [import_module(name) for name in names]
    return modules[0]


@contextmanager
def _prepared(experiment: Experiment, options: Options) -> Iterator[Prepared]:
    """The validated launch, while its run directory is locked."""
    from distcel.search.prepare import prepare

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
