"""Fits a run, and compares what it chose with every rival."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from distcel.execute.environment import environment
from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import require
from distcel.experiment.types import Experiment, SelectorSplit
from distcel.facade.run import Run, read_facts
from distcel.search.options import OWN_PRESET, Options, choose, require_comparable
from distcel.storage.files import remove_partial_files, write_json
from distcel.storage.lock import run_lock

if TYPE_CHECKING:
    import pandas as pd

    from distcel.search.prepare import Prepared


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
    pipeline = load_stages(workers, options.mlflow_uri)
    with prepared_launch(chosen, options) as prepared, workers.open(chosen.network) as opened:
        pipeline.launch(prepared, opened)
    return Run(options.run_dir, None if isinstance(experiment, str) else experiment)


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
    facts = read_facts(run.run_dir / "run.json", "a run directory")
    require_comparable(facts["selector_split"], {}, beyond)
    asked, found = (facts["fixed"], facts["selector_split"]), run.results
    same = asked == (found["fixed"], found["selector_split"])
    require(same, "a run whose last launch has finished", str(run.run_dir), "call fit again")
    chosen, options = choose(
        _experiment_of(run, facts),
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
    load_stages(workers, "none")
    from distcel.evaluate.compare import compare_run

    with prepared_launch(chosen, options) as prepared:
        _require_same_choice(prepared, found)
        with workers.open(chosen.network) as opened:
            comparison = compare_run(prepared, opened, beyond, gradients)
        write_json(run.run_dir / "comparison.json", {"best": found["best"], **comparison})
    return run.leaderboard()


def _require_same_choice(prepared: Prepared, results: Mapping[str, Any]) -> None:
    """An interrupted launch may have added trials since, or the versions may be others now."""
    from distcel.search.trials import TrialStore, best_trial

    records = TrialStore(prepared.search_folder / "trials").snapshot()
    complete = [record for record in records if record.state == "COMPLETE"]
    best = best_trial(records).params.as_dict() if complete else None
    rule = "trials of which results.json has the best"
    require(best == results["best"], rule, best, "call fit again, which brings results up to date")


def _experiment_of(run: Run, facts: Mapping[str, Any]) -> str | Experiment:
    """The data set's name, or the experiment of the user's own that the run is of."""
    if facts["preset"] != OWN_PRESET:
        return str(facts["dataset"])
    rule, remedy = "the experiment of a run of your own", "give load_run(run_dir, experiment=...)"
    require(run.experiment is not None, rule, None, remedy)
    assert run.experiment is not None, "just checked"
    return run.experiment


def load_stages(workers: Workers, mlflow_uri: str) -> ModuleType:
    """Import what the stages use: a run takes hours, and the files may be edited meanwhile.

    Returns:
        ModuleType: `distcel.pipeline`.
    """
    from distcel.tracking.live import MLFLOW_ENVIRONMENT

    names = ["distcel.pipeline", "distcel.report.results_page"]
    names += ["distcel.search.tune"] if workers.executor == "ray" else ["distcel.search.inline"]
    names += [] if mlflow_uri == "none" else ["distcel.tracking.mlflow"]
    with environment(**MLFLOW_ENVIRONMENT):  # some of which MLflow reads when it is imported
        modules = [import_module(name) for name in names]
    return modules[0]


@contextmanager
def prepared_launch(experiment: Experiment, options: Options) -> Iterator[Prepared]:
    """The validated launch, while its run directory is locked."""
    from distcel.search.prepare import prepare

    with run_lock(options.run_dir):
        remove_partial_files(options.run_dir)
        prepared = prepare(experiment, options)
        write_json(options.run_dir / "run.json", prepared.facts())
        yield prepared
