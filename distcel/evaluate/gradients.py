"""The knapsack layer's gradients side by side, at one trial's k, epsilon and lr."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from distcel.data.splits import Split
from distcel.execute.jobs import Executor
from distcel.experiment.errors import RunFailedError
from distcel.experiment.types import Gradient
from distcel.search.kept import train_missing
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import TrainingTask


@dataclass(frozen=True)
class Estimator:
    """A gradient with its number m of noise samples; `exact` draws none."""

    gradient: Gradient
    m: int

    @property
    def title(self) -> str:
        """The name in tables."""
        return self.gradient if self.gradient == "exact" else f"{self.gradient}, m = {self.m:,}"


ESTIMATORS = (
    *(Estimator("paper", m) for m in (10, 100, 1000)),
    *(Estimator("conditional", m) for m in (1, 5, 10, 30)),
    Estimator("exact", 1),
)


def study_gradients(
    task: TrainingTask,
    shared: Any,
    best: TrialRecord,
    test: Split,
    executor: Executor,
    folder: Path,
    estimators: Sequence[Estimator] = ESTIMATORS,
) -> list[dict[str, Any]]:
    """Train a selection net with each estimator, all else equal, and measure the test split.

    They are trained one after another, each by one thread, so that their times can be compared.

    Args:
        task: the task that they are trained on.
        shared: the task, as `executor.share` returned it.
        best: the trial that gives k, epsilon and lr.
        test: the test split.
        executor: runs the trainings.
        folder: where the networks are kept for a later launch; it has no other files.
        estimators: the estimators to compare; those that diverge are left out, with a logged
            warning.

    Returns:
        list: for each estimator `title`, `gradient`, `m`, `epochs` (with the seconds and the
        accuracy on valid of each, among others) and `test_accuracy` after the last, a fraction.

    Raises:
        RunFailedError: workers were lost repeatedly, or all estimators diverged.
    """
    runs: list[dict[str, Any]] = []
    for estimator in estimators:
        rule = SmartRule(replace(best.params, gradient=estimator.gradient, m=estimator.m))
        title = estimator.title
        network = train_missing({title: rule}, shared, executor, folder, stage="gradients")[title]
        if not isinstance(network, TrainedNetwork):
            continue
        predicted_S = rule.predict(network, task, test).argmax(-1).numpy()
        runs.append(
            {
                "title": title,
                **asdict(estimator),
                "epochs": [asdict(epoch) for epoch in network.epochs],
                "test_accuracy": float((predicted_S == test.labels_S).mean()),
            }
        )
    if not runs:
        reason = "every gradient diverged at the best trial's lr"
        raise RunFailedError(f"{reason}: search smaller learning rates")
    return runs
