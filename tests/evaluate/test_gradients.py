from dataclasses import replace
from pathlib import Path

import pytest
import ray

from distcel.evaluate.gradients import (
    ESTIMATORS,
    Estimator,
    EstimatorRun,
    GradientStudy,
    study_gradients,
)
from distcel.execute.pool import WorkerPool
from distcel.experiment.errors import RunFailedError
from distcel.report.gradient_table import gradient_table
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import EpochResult
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

FAST, SLOW = Estimator("exact", 1), Estimator("paper", 1000)
BEST = TrialRecord(3, PARAMS, "COMPLETE", (EpochResult(1, 1.0, 1.0, 0.5, 0.1, 1),))


def run_of(
    estimator: Estimator, seconds: float, accuracies: list[float], test: float
) -> EstimatorRun:
    epochs = [EpochResult(i + 1, 1.0, 1.0, x, seconds, 1) for i, x in enumerate(accuracies)]
    return EstimatorRun(estimator, tuple(epochs), test)


def row(table: str, title: str) -> list[str]:
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {title} "))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_estimators_are_those_that_are_asked_for() -> None:
    assert [estimator.title for estimator in ESTIMATORS] == [
        *("paper, m = 10", "paper, m = 100", "paper, m = 1,000"),
        *("conditional, m = 1", "conditional, m = 5", "conditional, m = 10", "conditional, m = 30"),
        "exact",
    ]


def test_accuracy_within_a_time_counts_epochs_that_ended_in_it() -> None:
    run = run_of(SLOW, 2.0, [0.5, 0.7, 0.6], 0.9)
    found = [run.valid_accuracy_within(seconds) for seconds in (1.9, 2.0, 5.9, 6.0, 99.0)]
    assert found == [None, 0.5, 0.7, 0.6, 0.6]


def test_the_table_by_hand() -> None:
    first = GradientStudy(
        0, (run_of(SLOW, 2.0, [0.5, 0.7, 0.9], 0.8), run_of(FAST, 1.5, [0.4, 0.5, 0.6], 0.55))
    )
    second = GradientStudy(
        1, (run_of(SLOW, 4.0, [0.6, 0.6, 0.7], 0.6), run_of(FAST, 1.0, [0.4, 0.5, 0.8], 0.65))
    )
    table = gradient_table([first, second])
    # Within 4.5 s the slow one ended two epochs of the first seed; within 3 s none of the second.
    assert row(table, "paper, m = 1,000") == [
        *("80.00 ± 14.14", "70.00 ± 14.14", "3.00 ± 1.41", "70.00 (1)")
    ]
    assert row(table, "exact") == ["70.00 ± 14.14", "60.00 ± 7.07", "1.25 ± 0.35", "70.00 ± 14.14"]
    assert "after 3 epochs" in table


def test_a_gradient_that_diverged_in_one_seed_says_so() -> None:
    both = GradientStudy(0, (run_of(SLOW, 2.0, [0.5], 0.8), run_of(FAST, 2.0, [0.4], 0.5)))
    one = GradientStudy(1, (run_of(FAST, 1.0, [0.6], 0.5),))
    table = gradient_table([one, both])
    assert row(table, "paper, m = 1,000")[0] == "50.00 (1)"
    assert row(table, "exact")[0] == "50.00 ± 14.14"


def test_every_gradient_is_trained_once_at_the_best_trials_point(
    pool: WorkerPool, tmp_path: Path
) -> None:
    task = task_of(epochs=2)
    ref, estimators = ray.put(task), (Estimator("conditional", 5), Estimator("paper", 10))
    study = study_gradients(task, ref, BEST, task.valid, pool, tmp_path, estimators)
    assert [run.estimator for run in study.runs] == list(estimators)
    for run in study.runs:
        assert len(run.epochs) == 2
        assert run.test_accuracy == run.epochs[-1].valid_accuracy  # here test is valid
        own = replace(PARAMS, gradient=run.estimator.gradient, m=run.estimator.m)
        alone = task.begin(own, CPU).run()
        assert [e.train_loss for e in run.epochs] == [e.train_loss for e in alone.epochs]
    again = study_gradients(task, ref, BEST, task.valid, pool, tmp_path, estimators)
    assert again == study  # its times as well: nothing was trained again


def test_a_gradient_that_diverges_is_left_out_and_all_of_them_are_an_error(
    pool: WorkerPool, tmp_path: Path
) -> None:
    task = task_of(epochs=1)
    recipe = replace(task.experiment.selector_recipe, optimizer="sgd")
    diverging = replace(task, experiment=replace(task.experiment, selector_recipe=recipe))
    record = replace(BEST, params=replace(PARAMS, lr=1e38))
    with pytest.raises(RunFailedError, match="every gradient diverged"):
        study_gradients(
            diverging, ray.put(diverging), record, task.valid, pool, tmp_path, (FAST, SLOW)
        )
