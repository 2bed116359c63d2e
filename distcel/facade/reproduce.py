"""The paper's evaluation over several seeds."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcel.execute.workers import ExecutorName, Workers
from distcel.experiment.errors import require_count
from distcel.experiment.types import Experiment
from distcel.facade.fit import load_stages, prepared_launch
from distcel.search.options import choose, reproduction_name, require_comparable

if TYPE_CHECKING:
    from distcel.search.prepare import Prepared


@dataclass(frozen=True)
class Reproduction:
    """A reproduction: the folder of its files, and the content of its `results.json`."""

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
    """Repeat the paper's evaluation over several seeds: Tables 1 to 3, Figure 2, further rules.

    Each seed is a `fit` and a `compare`. What is done is not done again.

    Args:
        experiment: name of a data set, or an Experiment of your own.
        seeds: number of seeds; they are 0 to `seeds` - 1.
        beyond: also train further rules that the paper does not have, as `compare` does.
        gradients: also train the best trial with each gradient, as `compare` does.
        results_dir: the folder for reports, results and figures; None is
            `runs/reproduce-DATASET-PRESET[-SPLIT][-FIXED]`.
        results_pages: a folder of result pages, to which the reproduction is added; None is none.
        workers: where trainings run; None is this machine.
        executor: `ray` or `inline`, where `workers` is None.
        command: the command that the report prints as its own.
        options: further arguments of `fit`, without `seed` and `run_dir`.

    Raises:
        InvalidInputError: something that was given is unusable.
        RunFailedError: a base learner diverged, workers were lost over and over, or a search has
            no complete trial.
    """
    require_count("seeds", seeds)
    pairs = [choose(experiment, seed=seed, **options) for seed in range(seeds)]
    require_comparable(pairs[0][0], pairs[0][1].selector_split, pairs[0][1].fixed, beyond)
    workers = workers or Workers(executor)
    pipeline = load_stages(workers, pairs[0][1].mlflow_uri)
    from distcel.search.preview import warn_of_many_learners

    with ExitStack() as stack:
        launches = [stack.enter_context(prepared_launch(*pair)) for pair in pairs]
        warn_of_many_learners(launches[0])
        opened = stack.enter_context(workers.open(pairs[0][0].network))
        found = [pipeline.launch_and_compare(one, opened, beyond, gradients) for one in launches]
    results = {"command": command, "seeds": found}
    return _written(launches[0], results, results_dir, results_pages)


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
