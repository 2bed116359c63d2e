from dataclasses import replace
from pathlib import Path

import pytest

from distcel.evaluate.gradients import (
    ESTIMATORS,
    Estimator,
    study_gradients,
)
from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import RunFailedError
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import EpochResult
from tests.core.test_ensemble import CPU, PARAMS
from tests.rules.test_gating import task_of

INLINE = InlineExecutor()
FAST, SLOW = Estimator("exact", 1), Estimator("paper", 1000)
BEST = TrialRecord(3, PARAMS, "COMPLETE", (EpochResult(1, 1.0, 1.0, 0.5, 0.1, 1),))


def test_the_estimators_have_their_gradients_and_numbers_of_draws() -> None:
    titles = ["paper, m = 10", "paper, m = 100", "paper, m = 1,000"]
    titles += [f"conditional, m = {m}" for m in (1, 5, 10, 30)]
    assert [estimator.title for estimator in ESTIMATORS] == [*titles, "exact"]


def test_every_gradient_is_trained_once_at_the_best_trials_point(
    tmp_path: Path,
) -> None:
    task = task_of(epochs=2)
    estimators = (Estimator("conditional", 5), Estimator("paper", 10))
    study = study_gradients(task, task, BEST, task.valid, INLINE, tmp_path, estimators)
    assert [run["title"] for run in study] == [estimator.title for estimator in estimators]
    for run, estimator in zip(study, estimators, strict=True):
        assert (run["gradient"], run["m"]) == (estimator.gradient, estimator.m)
        assert len(run["epochs"]) == 2
        assert run["test_accuracy"] == run["epochs"][-1]["valid_accuracy"]  # here test is valid
        own = replace(PARAMS, gradient=estimator.gradient, m=estimator.m)
        alone = task.begin(own, CPU).run()
        assert [e["train_loss"] for e in run["epochs"]] == [e.train_loss for e in alone.epochs]
    again = study_gradients(task, task, BEST, task.valid, INLINE, tmp_path, estimators)
    assert again == study  # its times as well: nothing was trained again


def test_a_gradient_that_diverges_is_left_out_and_all_of_them_are_an_error(
    tmp_path: Path,
) -> None:
    task = task_of(epochs=1)
    recipe = replace(task.experiment.selector_recipe, optimizer="sgd")
    diverging = replace(task, experiment=replace(task.experiment, selector_recipe=recipe))
    record = replace(BEST, params=replace(PARAMS, lr=1e38))
    with pytest.raises(RunFailedError, match="every gradient diverged"):
        study_gradients(diverging, diverging, record, task.valid, INLINE, tmp_path, (FAST, SLOW))
