"""Selects among predictors that were trained elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import require, require_non_negative
from distcel.experiment.prices import Prices
from distcel.experiment.types import Experiment
from distcel.facade.fit import load_stages, prepared_by
from distcel.facade.run import Run
from distcel.search.options import Options, choose

if TYPE_CHECKING:
    from distcel.data.answers import Answers
    from distcel.search.prepare import Prepared

PRESET = "select"  # stands for the preset in titles and names


def select(
    predictions: str | Path,
    truth: str | Path,
    *,
    features: str | Path | None = None,
    always: Sequence[str] = (),
    prices: str | Path | None = None,
    budget: float | None = None,
    shares: tuple[float, float, float] = (0.4, 0.1, 0.5),
    image_size: int | None = None,
    experiment: Experiment | None = None,
    run_dir: str | Path | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    time_budget: float | None = None,
    fixed: Mapping[str, Any] | None = None,
    mlflow_uri: str | None = None,
    workers: Workers | None = None,
    executor: ExecutorName = "ray",
) -> Run:
    """Learn which predictors to ask for each sample, from what each of them answered.

    No predictor is trained. Without `always`, `prices` and `budget` k of them are selected, as of
    base learners. With one of these, those are selected that are worth their price: each costs 1 if
    there are no prices.

    What is done is not done again: the same call continues a run that was interrupted.

    Args:
        predictions: a folder with a table a predictor, or an array; docs/your-own.md has the forms.
        truth: a table with sample_id, label and, if it has it, split.
        features: what the selection net sees: a folder of images, or a table or array of numbers.
        always: predictors that are asked for every sample; the selection net sees their answers.
        prices: a JSON object from the predictors' names to their prices, in any one unit.
        budget: the highest mean price of a sample of train and valid; None sets no limit.
        shares: shares of train, valid and test, where the truth has no splits.
        image_size: side in pixels that images are resized to; None keeps their own.
        experiment: recipes, network and search space; None takes those of search_spaces/select.py.
        run_dir: the folder for all files of the run; None is `runs/NAME-select-seedN`.
        num_samples: trials in all; None takes the experiment's.
        seed: seeds valid, the networks and the search.
        time_budget: seconds for the search of this call; None sets no limit.
        fixed: hyperparameters that are not searched, with their values.
        mlflow_uri: as `fit` takes it.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.

    Returns:
        Run: its results have `predictors`, `price` and `front` beside what every run has.

    Raises:
        InvalidInputError: something that was given is unusable.
        RunFailedError: workers were lost over and over, or no trial is complete.
    """
    prepare, options = chosen_selection(
        predictions,
        truth,
        features=features,
        always=always,
        prices=prices,
        budget=budget,
        shares=shares,
        image_size=image_size,
        experiment=experiment,
        run_dir=run_dir,
        num_samples=num_samples,
        seed=seed,
        time_budget=time_budget,
        fixed=fixed,
        mlflow_uri=mlflow_uri,
    )
    workers = workers or Workers(executor)
    pipeline = load_stages(workers, options.mlflow_uri)
    with (
        prepared_by(options, prepare) as prepared,
        workers.open(prepared.experiment.network) as opened,
    ):
        pipeline.launch(prepared, opened)
    return Run(options.run_dir, experiment)


def chosen_selection(
    predictions: str | Path,
    truth: str | Path,
    *,
    features: str | Path | None = None,
    always: Sequence[str] = (),
    prices: str | Path | None = None,
    budget: float | None = None,
    shares: tuple[float, float, float] = (0.4, 0.1, 0.5),
    image_size: int | None = None,
    experiment: Experiment | None = None,
    run_dir: str | Path | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    time_budget: float | None = None,
    fixed: Mapping[str, Any] | None = None,
    mlflow_uri: str | None = None,
) -> tuple[Callable[[], Prepared], Options]:
    """Read the answers and check the arguments of `select`, which are these.

    Returns:
        function: prepares the launch, and checks the rest.
        Options: the options of the launch.

    Raises:
        InvalidInputError: something that was given is unusable.
    """
    from distcel.data.answers import read_answers
    from distcel.search.prepare import prepare_answers

    rule, remedy = "always as a list of names", "put the name into a list"
    require(not isinstance(always, str), rule, always, remedy)
    folder, always = Path(predictions), tuple(always)
    if budget is not None:
        require_non_negative("budget", budget)
    is_seed = isinstance(seed, int) and 0 <= seed < 2**31
    require(is_seed, "a whole number 0 <= seed < 2^31", seed, "give another seed")
    answers = read_answers(
        folder,
        Path(truth),
        features=None if features is None else Path(features),
        always=always,
        prices=None if prices is None else Path(prices),
        shares=shares,
        seed=seed,
        image_size=image_size,
    )
    fixed = dict(fixed or {})
    known = _prices(answers, budget, bool(always) or prices is not None or budget is not None)
    if known is not None:
        rule, remedy = "no vote among what is fixed, with prices", "leave it out: it is learned"
        require("vote" not in fixed, rule, fixed.get("vote"), remedy)
    name = re.sub(r"[^\w.-]", "_", folder.absolute().stem)
    chosen, options = choose(
        experiment or _experiment(name, answers, known),
        data_dir=folder,
        run_dir=run_dir or f"runs/{name}-{PRESET}-seed{seed}",
        num_samples=num_samples,
        seed=seed,
        time_budget=time_budget,
        fixed=fixed,
        mlflow_uri=mlflow_uri,
    )
    options = replace(options, preset=PRESET)
    return lambda: prepare_answers(chosen, options, answers, known), options


def _prices(answers: Answers, budget: float | None, priced: bool) -> Prices | None:
    if not priced:
        return None
    unit = (1.0,) * len(answers.names)
    return Prices(answers.prices_N or unit, answers.n_always, budget)


def _experiment(name: str, answers: Answers, prices: Prices | None) -> Experiment:
    from distcel.search_spaces.select import experiment_of

    splits = answers.splits
    n_selectable = len(answers.names) - answers.n_always if prices else None
    chosen: Experiment = experiment_of(
        name, splits.image_shape, len(splits["train"].labels_S), n_selectable
    )
    return chosen
