import json
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from distcel.search_spaces.common import selection_space
from optuna.distributions import FloatDistribution

from distcel.core.networks import NetworkPlan
from distcel.execute.pool import WorkerPool
from distcel.experiment.space import search_space
from distcel.experiment.types import Architecture, Experiment, Recipe, SelectionParams, first_point
from distcel.search import tune as search_module
from distcel.search.refit import refit
from distcel.search.selection import SelectionTask
from distcel.search.trials import TrialStore, best_trial
from distcel.search.tune import SearchSettings, _searcher, run_search
from distcel.train.trial_record import EpochResult, TrialRecord
from tests.core.test_ensemble import specialists

ONE_AT_A_TIME = WorkerPool(1, 1.0, 0.0)
EXPERIMENT = Experiment(
    dataset="digits",
    image_size=None,
    specialty_share=0.5,
    architecture=Architecture("lenet", (2, 2)),
    learner_recipe=Recipe("adadelta", 1.0, 1, 16),
    selector_recipe=Recipe("adadelta", 1.0, epochs=3, batch_size=40),
    space=selection_space(0.1, 3.0),
    first_trial=SelectionParams(k=2, epsilon=0.5, m=20, lr=1.0, gradient="paper"),
    num_samples=5,
)


@pytest.fixture(scope="module")
def task() -> SelectionTask:
    plan = NetworkPlan(EXPERIMENT.architecture, (1, 16, 16), (0.5,), (0.25,))
    return SelectionTask(EXPERIMENT, plan, specialists(0), specialists(1), seed=0)


def search(
    task: SelectionTask,
    folder: Path,
    num_samples: int,
    time_budget: float | None = None,
    **fixed: object,
) -> list[TrialRecord]:
    experiment, store = task.experiment, TrialStore(folder / "trials")
    settings = SearchSettings(
        space=search_space(experiment, 4, fixed),
        first=first_point(experiment, 4, fixed),
        max_epochs=experiment.selector_recipe.epochs,
        seed=0,
        num_samples=num_samples,
        time_budget=time_budget,
    )
    return run_search(ray.put(task), settings, store, ONE_AT_A_TIME, folder / "tune")


def test_the_search_begins_with_the_papers_point_and_is_repeatable(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    records = search(task, tmp_path / "a", 4)
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert {record.state for record in records} == {"COMPLETE"}
    assert records[0].params == EXPERIMENT.first_trial
    assert len({record.params for record in records}) == 4

    again = search(task, tmp_path / "b", 4)
    assert [(r.params, [e.valid_accuracy for e in r.epochs]) for r in again] == [
        (r.params, [e.valid_accuracy for e in r.epochs]) for r in records
    ]

    full = next(record for record in records if len(record.epochs) == 3)
    network, whole = refit(ray.put(task), full, ONE_AT_A_TIME, tmp_path / "refit")
    assert [e.valid_accuracy for e in whole.epochs] == [e.valid_accuracy for e in full.epochs]
    assert network.weights["selection_net.body.11.weight"].shape[0] == 4


def test_a_kill_before_any_trial_has_begun_does_not_lose_the_papers_point(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(search_module, "_tuner", kill)
    with pytest.raises(Killed):
        search(task, tmp_path, 4)
    (kept,) = TrialStore(tmp_path / "trials").running()
    assert (kept.number, kept.params) == (0, EXPERIMENT.first_trial)


def test_a_launch_adds_to_what_is_finished_and_repeats_what_was_interrupted(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    before = search(task, tmp_path, 2)
    interrupted = SelectionParams(k=3, epsilon=0.77, m=5, lr=0.3, gradient="exact")
    TrialStore(tmp_path / "trials").keep(TrialRecord(2, interrupted, "RUNNING"))
    after = search(task, tmp_path, 4)
    assert after[:2] == before
    assert after[2].params == interrupted
    assert [(r.number, r.state) for r in after] == [(i, "COMPLETE") for i in range(4)]
    assert after[3].params not in [record.params for record in after[:3]]
    assert search(task, tmp_path, 4) == after


def test_fixed_hyperparameters_are_not_searched(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    records = search(task, tmp_path, 3, k=3, gradient="exact")
    assert {(record.params.k, record.params.gradient) for record in records} == {(3, "exact")}
    assert len({record.params.epsilon for record in records}) == 3


def test_a_trial_that_fails_says_why_and_the_search_goes_on(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    space = {**EXPERIMENT.space, "lr": FloatDistribution(1e30, 1e38, log=True)}
    first = replace(EXPERIMENT.first_trial, lr=1e38)
    recipe = replace(EXPERIMENT.selector_recipe, optimizer="sgd")
    diverging = replace(EXPERIMENT, space=space, selector_recipe=recipe, first_trial=first)
    records = search(replace(task, experiment=diverging), tmp_path, 2)
    assert [record.state for record in records] == ["FAILED", "FAILED"]
    assert all("became" in record.reason for record in records)
    with pytest.raises(RuntimeError, match=r"is complete: .*became.* a higher --num-samples"):
        best_trial(records)
    assert json.loads((tmp_path / "trials" / "00000.json").read_text())["state"] == "FAILED"


def test_a_time_budget_ends_the_search_with_what_there_is(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    endless = replace(EXPERIMENT, selector_recipe=replace(EXPERIMENT.selector_recipe, epochs=10**6))
    slow = replace(task, experiment=endless)
    # Tune takes several of these seconds to start, on a busy machine most of them.
    records = search(slow, tmp_path, 100, time_budget=30, gradient="exact")
    assert 1 <= len(records) < 100
    assert {record.state for record in records} == {"COMPLETE"}
    assert best_trial(records).epochs
    TrialStore(tmp_path / "trials").close(100)
    assert search(slow, tmp_path, 100, time_budget=30, gradient="exact") == records


def test_a_hopeless_trial_is_stopped_early(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    # Learning rates that change nothing, after one that learns; the planned first one is spared.
    longer = replace(EXPERIMENT, selector_recipe=replace(EXPERIMENT.selector_recipe, epochs=9))
    learning = SelectionParams(k=1, epsilon=1.0, m=20, lr=1.0, gradient="exact")
    spared, stopped = replace(learning, lr=2e-9), replace(learning, lr=1e-9)
    space = {**EXPERIMENT.space, "lr": FloatDistribution(1e-9, 1.0)}
    experiment = replace(longer, space=space, first_trial=spared)
    store = TrialStore(tmp_path / "trials")
    for number, params in enumerate((learning, spared, stopped), 1):
        store.keep(TrialRecord(number, params, "RUNNING"))
    records = search(replace(task, experiment=experiment), tmp_path, 3)
    assert [len(record.epochs) for record in records] == [9, 9, 3]  # a third


def test_a_failed_trial_counts_and_is_not_repeated(
    task: SelectionTask, pool: WorkerPool, tmp_path: Path
) -> None:
    params = SelectionParams(k=1, epsilon=0.5, m=2, lr=1.0, gradient="exact")
    failed = TrialRecord(0, params, "FAILED", (), "a weight became NaN")
    TrialStore(tmp_path / "trials").keep(failed)
    records = search(task, tmp_path, 2)
    assert records[0] == failed
    assert [record.state for record in records] == ["FAILED", "COMPLETE"]


def test_a_launch_tells_the_study_what_earlier_ones_found(tmp_path: Path) -> None:
    store, params = TrialStore(tmp_path), replace(EXPERIMENT.first_trial, k=3)
    epoch = EpochResult(1, 1.0, 1.0, 0.625, 0.1, 1)
    store.keep(TrialRecord(0, params, "COMPLETE", (epoch,)))
    store.keep(TrialRecord(1, params, "FAILED", (), "a weight became NaN"))
    settings = SearchSettings(
        search_space(EXPERIMENT, 4, {}), EXPERIMENT.first_trial, 3, seed=0, num_samples=9
    )
    study = _searcher(settings, store)._ot_study
    assert study is not None
    found = study.trials
    assert [(trial.state.name, trial.value) for trial in found] == [
        ("COMPLETE", 0.625),
        ("FAIL", None),
    ]
    assert [trial.params["k"] for trial in found] == [3, 3]


def test_a_launch_that_finished_nothing_does_not_draw_the_same_points(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    settings = SearchSettings(
        search_space(EXPERIMENT, 4, {}), EXPERIMENT.first_trial, 3, seed=0, num_samples=9
    )
    store.keep(TrialRecord(0, settings.first, "RUNNING"))
    first = _searcher(settings, store)
    drawn = [SelectionParams(**(first.suggest(str(i)) or {})) for i in range(4)]
    for number, params in enumerate(drawn[:2]):  # of which the launch began two
        store.keep(TrialRecord(number, params, "RUNNING"))
    second = _searcher(settings, store)
    again = [SelectionParams(**(second.suggest(str(i)) or {})) for i in range(4)]
    assert again[:2] == drawn[:2]
    assert not set(again[2:]) & set(drawn)
