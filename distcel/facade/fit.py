"""Fits a run, and compares its best trial with every other rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from distcel.execute.environment import environment, require_home
from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import require
from distcel.experiment.loading import ARRAYS
from distcel.experiment.types import Experiment, SelectionParams, SelectorSplit
from distcel.facade.run import Run, read_facts
from distcel.search.options import OWN_PRESET, Options, choose, require_comparable
from distcel.storage.files import remove_partial_files, write_json
from distcel.storage.folders import mend_folders
from distcel.storage.ledger import ledger_path, require_ledger
from distcel.storage.lock import run_lock

if TYPE_CHECKING:
    import pandas as pd

    from distcel.search.prepare import Prepared


def fit(
    experiment: str | Experiment = ARRAYS,
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
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
) -> Run:
    """Train the base learners, search the selection net's hyperparameters, evaluate on test.

    What is done is not done again: the same call continues a run that was interrupted.

    Args:
        experiment: name of a data set, or an Experiment of your own; `arrays` is the name of the
            data set that X is.
        X: uint8 images (S, channels, H, W) with y, or a data set of (image, label), such as those
            of torchvision or Hugging Face; None for files.
        y: labels (S,), whole numbers or text; None with a data set.
        X_test: the test split in the same form; None draws it from X.
        y_test: its labels; None with a data set.
        preset: the data set's preset: `smoke` (seconds), `quick` (minutes), `half_day` (FER2013
            and UTKFace) or `paper`.
        data_dir: the folder of the data set.
        run_dir: the folder for all files of the run; None is `runs/DATASET-PRESET[-SPLIT]-seedN`.
        num_samples: trials in all; None takes the preset's.
        seed: seeds the valid split, the networks, the layer's noise and the search.
        time_budget: seconds for the search of this call; None sets no limit.
        fixed: hyperparameters that are not searched, with their values.
        selector_split: what the selection net is trained on: `train`, which the base learners have
            seen; `holdout`, a fifth of it kept from them; or `crossfit`, all of it, each third
            predicted by copies of the base learners that have not seen it.
        imagenet_weights: of a ResNet18 or EfficientNet-Lite0: `published`, a file, or `none`.
        mlflow_uri: tracking server or database, without a password; None is MLFLOW_TRACKING_URI or
            else `mlflow.db` beside the run directory, `none` logs to no tracker.
        register: name under which the ensemble is registered in MLflow's model registry, as a new
            version unless it is one already; None registers nothing.
        prune: whether `ensemble/` has only the base learners that are selected for at least one
            sample of valid; `results["pruned"]` says what that changes.
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
        X=X,
        y=y,
        X_test=X_test,
        y_test=y_test,
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
        register=register,
        prune=prune,
    )
    pipeline = load_stages(workers, options.mlflow_uri)
    from distcel.search.preview import warn_of_many_learners

    with prepared_launch(chosen, options) as prepared:
        warn_of_many_learners(prepared)
        with workers.open(chosen.network) as opened:
            pipeline.launch(prepared, opened)
    return Run(options.run_dir, None if isinstance(experiment, str) else experiment)


def compare(
    run: Run,
    *,
    X: Any = None,
    y: Any = None,
    X_test: Any = None,
    y_test: Any = None,
    data_dir: str | Path | None = None,
    beyond: bool = False,
    gradients: bool = False,
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
) -> pd.DataFrame:
    """Compare a finished run's best trial with every other rule, on the test split.

    This trains the smart ensemble at each k of Figure 2, and its null models: the controls and,
    but on a holdout, a brief single network. Trained networks are kept in the run directory, and
    the comparison in its `comparison.json` and `report.html`.

    Args:
        run: a run from `fit` or `load_run`.
        X: the images that `fit` had, if it had any.
        y: their labels, as for `fit`.
        X_test: the test images that `fit` had, if it had any.
        y_test: their labels, as for `fit`.
        data_dir: the folder of the data set; None is the one that the last launch had.
        beyond: also train further rules that the paper does not have: the learned vote, soft
            gating, straight-through top-k, a single network trained for as long as the whole
            ensemble, and e2e-CEL that starts from a brief one.
        gradients: also train the best trial with each gradient.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.

    Returns:
        DataFrame: `Run.leaderboard`, which then has every rule.

    Raises:
        InvalidInputError: the run is not finished, its experiment or images were not given or are
            others, or the trials have changed since it finished.
        RunFailedError: workers were lost over and over.
    """
    facts = read_facts(run.run_dir / "run.json", "a run directory")
    found = run.results
    rule = "a run that trained base learners of its own"
    given = facts.get("predictions")
    require(given is None, rule, f"one on {given}", "see Run.leaderboard for the rules it has")
    same = all(facts[name] == found[name] for name in ("fixed", "selector_split"))
    require(same, "a run whose last launch has finished", str(run.run_dir), "call fit again")
    given, rule = X is not None or facts["data_dir"] is not None, "the images that fit had, as X"
    require(given, rule, X, "give compare(run, X=, y=, ...)")
    chosen, options = choose(
        _experiment_of(run, facts),
        X=X,
        y=y,
        X_test=X_test,
        y_test=y_test,
        preset=facts["preset"],
        data_dir=data_dir or facts["data_dir"] or "",
        run_dir=run.run_dir,
        num_samples=facts["num_samples"],
        seed=facts["seed"],
        fixed=facts["fixed"],
        selector_split=facts["selector_split"],
        imagenet_weights=facts["imagenet_weights"],
        mlflow_uri="none",
    )
    require_comparable(chosen, facts["selector_split"], {}, beyond)
    workers = workers or Workers(executor)
    load_stages(workers, options.mlflow_uri)
    from distcel.evaluate.compare import compare_run
    from distcel.report.page import write_page
    from distcel.search.prepare import prepare

    def prepare_as_fitted() -> Prepared:
        prepared = prepare(chosen, options)
        rule = "the data, experiment and versions that the run was fitted with"
        same = prepared.search_key == facts["search_key"]
        require(same, rule, "others", "give the same, or call fit again")
        _require_same_choice(prepared, found)
        return prepared

    with prepared_by(options, prepare_as_fitted) as prepared:
        with workers.open(chosen.network) as opened:
            comparison = compare_run(prepared, opened, beyond, gradients)
        write_json(run.run_dir / "comparison.json", {"best": found["best"], **comparison})
        write_page(run.run_dir)
    return run.leaderboard()


def _require_same_choice(prepared: Prepared, results: Mapping[str, Any]) -> None:
    """Refuse trials that an interrupted launch added, or a search under other versions."""
    from distcel.search.trials import TrialStore, best_trial

    records = TrialStore(prepared.search_folder / "trials").snapshot()
    complete = [record for record in records if record.state == "COMPLETE"]
    best = best_trial(records).params if complete else None
    found = SelectionParams.from_dict(results["best"])
    same = best in (found, replace(found, k="any"))  # of any k, the results have the chosen one
    rule = "trials of which results.json has the best"
    require(same, rule, best, "call fit again, which brings results up to date")


def _experiment_of(run: Run, facts: Mapping[str, Any]) -> str | Experiment:
    """The name of the run's data set, or the user's own experiment."""
    if facts["preset"] != OWN_PRESET:
        return str(facts["dataset"])
    rule = "the Experiment that this run was fitted with"
    remedy = "give load_run(run_dir, experiment=...)"
    require(run.experiment is not None, rule, None, remedy)
    assert run.experiment is not None, "just checked"
    return run.experiment


def load_stages(workers: Workers, mlflow_uri: str) -> ModuleType:
    """Import what the stages use at once: files may be edited during the hours of a run.

    Returns:
        ModuleType: `distcel.pipeline`.

    Raises:
        InvalidInputError: this user has no home directory.
    """
    from distcel.tracking.live import MLFLOW_ENVIRONMENT

    if workers.executor == "ray" or mlflow_uri != "none":
        require_home()
    names = ["distcel.pipeline", "distcel.report.results_page"]
    names += ["distcel.search.tune"] if workers.executor == "ray" else ["distcel.search.inline"]
    if mlflow_uri != "none":
        names += ["distcel.tracking.mlflow", "distcel.tracking.reproduction"]
    with environment(**MLFLOW_ENVIRONMENT):  # some of which MLflow reads when it is imported
        modules = [import_module(name) for name in names]
    return modules[0]


@contextmanager
def prepared_launch(experiment: Experiment, options: Options) -> Iterator[Prepared]:
    """Lock the run directory and prepare the launch, whose input has been checked."""
    from distcel.search.prepare import prepare

    with prepared_by(options, lambda: prepare(experiment, options)) as prepared:
        yield prepared


@contextmanager
def prepared_by(options: Options, prepare: Callable[[], Prepared]) -> Iterator[Prepared]:
    """Lock and mend the run directory, prepare the launch, and describe it there."""
    with run_lock(options.run_dir):
        remove_partial_files(options.run_dir)
        mend_folders(options.run_dir, "ensemble")
        prepared = prepare()
        require_ledger(ledger_path(options.run_dir, prepared.experiment.dataset))
        write_json(options.run_dir / "run.json", prepared.facts())
        yield prepared
