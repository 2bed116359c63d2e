"""The knapsack layer's gradients side by side, at one trial's k, epsilon and lr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distcel.execute.jobs import Executor, Failed
from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import Gradient
from distcel.search.kept import train_missing
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialRecord
from distcel.train.cache import CachedSplit
from distcel.train.checkpoint import EpochResult
from distcel.train.selection import SelectionTask


@dataclass(frozen=True)
class Estimator:
    """A gradient with its m, the noise samples that it draws; `exact` draws none."""

    gradient: Gradient
    m: int

    @property
    def title(self) -> str:
        """Its name in a table."""
        return self.gradient if self.gradient == "exact" else f"{self.gradient}, m = {self.m:,}"


ESTIMATORS = (
    *(Estimator("paper", m) for m in (10, 100, 1000)),
    *(Estimator("conditional", m) for m in (1, 5, 10, 30)),
    Estimator("exact", 1),
)


@dataclass(frozen=True)
class EstimatorRun:
    """One training of the selection net.

    Attributes:
        estimator: of its gradient.
        epochs: each one's seconds and its accuracy on the valid split.
        test_accuracy: after the last epoch, as a fraction.
    """

    estimator: Estimator
    epochs: tuple[EpochResult, ...]
    test_accuracy: float

    @property
    def seconds(self) -> float:
        """That all epochs took, valid split and all."""
        return sum(result.seconds for result in self.epochs)

    def valid_accuracy_within(self, seconds: float) -> float | None:
        """After the last epoch that ended within so many seconds; None if not one did."""
        reached, spent = None, 0.0
        for result in self.epochs:
            spent += result.seconds
            if spent <= seconds:
                reached = result.valid_accuracy
        return reached


@dataclass(frozen=True)
class GradientStudy:
    """One seed's runs; `dataclasses.asdict` gives all of it for a JSON file."""

    seed: int
    runs: tuple[EstimatorRun, ...]

    @property
    def shortest(self) -> float:
        """Seconds that the fastest estimator took for all its epochs."""
        return min(run.seconds for run in self.runs)

    def run_of(self, estimator: Estimator) -> EstimatorRun | None:
        """The estimator's run; None if it diverged."""
        return next((run for run in self.runs if run.estimator == estimator), None)


def study_gradients(
    task: SelectionTask,
    shared: Any,
    best: TrialRecord,
    test: CachedSplit,
    executor: Executor,
    folder: Path,
    estimators: Sequence[Estimator] = ESTIMATORS,
) -> GradientStudy:
    """Train a selection net with each estimator, all else alike, and measure the test split.

    They are trained one after another, each by one thread, so that their times can be compared.

    Args:
        task: what they are trained on.
        shared: the same, as `executor.share` returned it.
        best: the trial whose k, epsilon and lr they have.
        test: the test split.
        executor: the workers' resources.
        folder: of its own, where the trainings are kept for a later launch.
        estimators: that are compared; one that diverges is left out, and said so.

    Raises:
        RunFailedError: workers died again and again, or all estimators diverged.
    """

    def run(estimator: Estimator) -> EstimatorRun | None:
        rule = SmartRule(replace(best.params, gradient=estimator.gradient, m=estimator.m))
        network = train_missing({estimator.title: rule}, shared, executor, folder)[estimator.title]
        if isinstance(network, Failed):
            return None
        chosen_S = rule.predict(network, task, test).argmax(-1).numpy()
        return EstimatorRun(estimator, network.epochs, float((chosen_S == test.labels_S).mean()))

    found = [run for run in map(run, estimators) if run is not None]
    if not found:
        raise RunFailedError("every gradient diverged at the best trial's lr: search it again")
    return GradientStudy(task.seed, tuple(found))
