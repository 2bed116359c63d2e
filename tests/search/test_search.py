"""The search in this process and on Ray; both give the same records."""

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from distcel.search_spaces.common import paper_space
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from distcel.core.networks import NetworkPlan
from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Executor
from distcel.execute.pool import WorkerPool
from distcel.execute.progress import Event, Trial, observed_by, short_point
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.architecture import Architecture
from distcel.experiment.space import search_space
from distcel.experiment.types import Experiment, Recipe, SelectionParams, first_point
from distcel.search import inline, tune
from distcel.search.refit import refit_best
from distcel.search.search import SearchSettings, run_search
from distcel.search.trials import TrialRecord, TrialStore, best_trial
from distcel.train.checkpoint import EpochResult
from distcel.train.selection import TrainingTask
from tests.cached_splits import made_splits
from tests.core.test_ensemble import specialists

INLINE = InlineExecutor()
EXPERIMENT = Experiment(
    dataset="digits",
    image_size=None,
    specialty_share=0.5,
    architecture=Architecture("lenet", (2, 2)),
    learner_recipe=Recipe("adadelta", 1.0, 1, 16),
    selector_recipe=Recipe("adadelta", 1.0, epochs=3, batch_size=40),
    space=paper_space(0.1, 3.0),
    first_trial=SelectionParams(k=2, epsilon=0.5, m=20, lr=1.0, gradient="paper"),
    num_samples=5,
)


@pytest.fixture(scope="module")
def task() -> TrainingTask:
    plan = NetworkPlan(EXPERIMENT.network, (1, 16, 16), (0.5,), (0.25,))
    return TrainingTask(EXPERIMENT, plan, made_splits(specialists(0), specialists(1)), seed=0)


def search(
    task: TrainingTask,
    folder: Path,
    num_samples: int,
    executor: Executor = INLINE,
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
    return run_search(executor.share(task), settings, store, executor, folder / "tune")


@pytest.fixture
def one_worker(pool: WorkerPool) -> Executor:
    return RayExecutor(lambda: WorkerPool(1, 1.0, 0.0))


def what_counts(records: list[TrialRecord]) -> list[object]:
    return [(r.number, r.params, r.state, [e.valid_accuracy for e in r.epochs]) for r in records]


def test_the_search_begins_with_the_papers_point_and_is_the_same_on_ray(
    task: TrainingTask, one_worker: Executor, tmp_path: Path
) -> None:
    records = search(task, tmp_path / "inline", 4)
    assert [record.number for record in records] == [0, 1, 2, 3]
    assert {record.state for record in records} == {"COMPLETE"}
    assert records[0].params == EXPERIMENT.first_trial
    assert len({record.params for record in records}) == 4

    events: list[Event] = []
    with observed_by(events.append):
        on_ray = search(task, tmp_path / "ray", 4, one_worker)
    assert what_counts(on_ray) == what_counts(records)
    n_samples = sum(event.n_samples for event in events if isinstance(event, Trial))
    assert n_samples == len(task.train.labels_S) * sum(len(r.epochs) for r in on_ray)
    named = [path.name.partition("_")[0] for path in (tmp_path / "ray" / "tune").glob("trial*")]
    points = [short_point(record.params.as_dict()) for record in on_ray]
    assert sorted(named) == [f"trial {i} {point}" for i, point in enumerate(points)]

    store = TrialStore(tmp_path / "inline" / "trials")
    network, whole = refit_best(task, store, INLINE, tmp_path / "refit")
    n_epochs = len(best_trial(records).epochs)
    best = [e.valid_accuracy for e in best_trial(records).epochs]
    assert [e.valid_accuracy for e in whole.epochs][:n_epochs] == best
    assert network.weights["selection_net.body.11.weight"].shape[0] == 4


def test_a_kill_before_any_trial_has_begun_does_not_lose_the_papers_point(
    task: TrainingTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(inline, "run_trials", kill)
    with pytest.raises(Killed):
        search(task, tmp_path, 4)
    (kept,) = TrialStore(tmp_path / "trials").running()
    assert (kept.number, kept.params) == (0, EXPERIMENT.first_trial)


def test_a_launch_adds_to_finished_trials_and_repeats_interrupted_ones(
    task: TrainingTask, tmp_path: Path
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


def test_fixed_hyperparameters_are_not_searched(task: TrainingTask, tmp_path: Path) -> None:
    records = search(task, tmp_path, 3, k=3, gradient="exact")
    assert {(record.params.k, record.params.gradient) for record in records} == {(3, "exact")}
    assert len({record.params.epsilon for record in records}) == 3


@pytest.mark.parametrize("where", ["inline", "ray"])
def test_a_trial_that_diverges_is_failed_for_the_record_and_for_optuna_at_once(
    where: str,
    task: TrainingTask,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    studies: list[optuna.Study | None] = []
    new_study, new_searcher = inline.new_study, tune.new_searcher

    def study(settings: SearchSettings, store: TrialStore) -> optuna.Study:
        studies.append(made := new_study(settings, store))
        return made

    def searcher(settings: SearchSettings, store: TrialStore) -> tune.Searcher:
        made = new_searcher(settings, store)
        studies.append(made._ot_study)
        return made

    monkeypatch.setattr(inline, "new_study", study)
    monkeypatch.setattr(tune, "new_searcher", searcher)
    executor = INLINE if where == "inline" else request.getfixturevalue("one_worker")
    space = {**EXPERIMENT.space, "lr": FloatDistribution(1e30, 1e38, log=True)}
    first = replace(EXPERIMENT.first_trial, lr=1e38)
    recipe = replace(EXPERIMENT.selector_recipe, optimizer="sgd")
    diverging = replace(EXPERIMENT, space=space, selector_recipe=recipe, first_trial=first)
    records = search(replace(task, experiment=diverging), tmp_path, 2, executor)
    assert [record.state for record in records] == ["FAILED", "FAILED"]
    assert all("became" in record.reason for record in records)
    with pytest.raises(
        RuntimeError, match=r"is complete: .*became.*: remove the cause and raise num_samples"
    ):
        best_trial(records)
    assert json.loads((tmp_path / "trials" / "00000.json").read_text())["state"] == "FAILED"
    (used,) = studies
    assert used is not None
    states = [(trial.state.name, trial.value) for trial in used.trials]
    assert states == [("FAIL", None), ("FAIL", None)]


@pytest.mark.parametrize(("where", "seconds"), [("inline", 3), ("ray", 15)])
def test_a_time_budget_ends_the_search_with_the_trials_so_far(
    where: str, seconds: float, task: TrainingTask, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    executor = INLINE if where == "inline" else request.getfixturevalue("one_worker")
    endless = replace(EXPERIMENT, selector_recipe=replace(EXPERIMENT.selector_recipe, epochs=10**6))
    slow = replace(task, experiment=endless)
    # Tune takes several of these seconds to start, on a busy machine most of them.
    records = search(slow, tmp_path, 100, executor, seconds, gradient="exact")
    assert 1 <= len(records) < 100
    assert {record.state for record in records} == {"COMPLETE"}
    assert best_trial(records).epochs
    TrialStore(tmp_path / "trials").close(100)
    assert search(slow, tmp_path, 100, executor, seconds, gradient="exact") == records


@pytest.mark.parametrize("where", ["inline", "ray"])
def test_a_hopeless_trial_is_stopped_early(
    where: str, task: TrainingTask, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    executor = INLINE if where == "inline" else request.getfixturevalue("one_worker")
    # Learning rates that change nothing, after one that learns; the planned first one is spared.
    longer = replace(EXPERIMENT, selector_recipe=replace(EXPERIMENT.selector_recipe, epochs=9))
    learning = SelectionParams(k=1, epsilon=1.0, m=20, lr=1.0, gradient="exact")
    spared, stopped = replace(learning, lr=2e-9), replace(learning, lr=1e-9)
    space = {**EXPERIMENT.space, "lr": FloatDistribution(1e-9, 1.0)}
    experiment = replace(longer, space=space, first_trial=spared)
    store = TrialStore(tmp_path / "trials")
    for number, params in enumerate((learning, spared, stopped), 1):
        store.keep(TrialRecord(number, params, "RUNNING"))
    records = search(replace(task, experiment=experiment), tmp_path, 3, executor)
    assert [len(record.epochs) for record in records] == [9, 9, 3]  # a third


def test_a_failed_trial_counts_and_is_not_repeated(task: TrainingTask, tmp_path: Path) -> None:
    params = SelectionParams(k=1, epsilon=0.5, m=2, lr=1.0, gradient="exact")
    failed = TrialRecord(0, params, "FAILED", (), "a weight became NaN")
    TrialStore(tmp_path / "trials").keep(failed)
    records = search(task, tmp_path, 2)
    assert records[0] == failed
    assert [record.state for record in records] == ["FAILED", "COMPLETE"]


@pytest.mark.parametrize("where", ["inline", "ray"])
def test_a_new_study_has_the_trials_of_earlier_launches(where: str, tmp_path: Path) -> None:
    store, params = TrialStore(tmp_path), replace(EXPERIMENT.first_trial, k=3)
    epoch = EpochResult(1, 1.0, 1.0, 0.625, 0.1, 1)
    store.keep(TrialRecord(0, params, "COMPLETE", (epoch,)))
    store.keep(TrialRecord(1, params, "FAILED", (), "a weight became NaN"))
    settings = SearchSettings(
        search_space(EXPERIMENT, 4, {}), EXPERIMENT.first_trial, 3, seed=0, num_samples=9
    )
    study = (
        inline.new_study(settings, store)
        if where == "inline"
        else tune.new_searcher(settings, store)._ot_study
    )
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

    def draw() -> list[SelectionParams]:
        study = inline.new_study(settings, store)
        points = (study.ask(settings.space).params for _ in range(4))
        return [SelectionParams.from_dict(point) for point in points]

    store.keep(TrialRecord(0, settings.first, "RUNNING"))
    drawn = draw()
    for number, params in enumerate(drawn[:2]):  # of which the launch began two
        store.keep(TrialRecord(number, params, "RUNNING"))
    again = draw()
    assert again[:2] == drawn[:2]
    assert not set(again[2:]) & set(drawn)


@pytest.mark.parametrize(("num_samples", "sampler"), [(50, GPSampler), (51, TPESampler)])
def test_points_are_random_until_four_trials_are_complete_and_then_follow_from_these(
    num_samples: int, sampler: type[BaseSampler], tmp_path: Path
) -> None:
    store, first = TrialStore(tmp_path), EXPERIMENT.first_trial
    settings = SearchSettings(search_space(EXPERIMENT, 4, {}), first, 3, 0, num_samples)
    failed = TrialRecord(0, first, "FAILED", (), "a weight became NaN")
    store.keep(failed)
    for number, lr in enumerate((0.2, 0.5, 1.0, 2.0), 1):
        assert not inline.new_study(settings, store).ask(settings.space).relative_params
        epoch = EpochResult(1, 1.0, 1.0, 0.5 + 0.1 * lr, 0.1, 1)
        store.keep(TrialRecord(number, replace(first, lr=lr), "COMPLETE", (epoch,)))
    study, of_next_launch = (inline.new_study(settings, store) for _ in range(2))
    trials = [study.ask(settings.space) for _ in range(3)]  # of three workers
    assert isinstance(study.sampler, sampler)
    assert all(trial.relative_params for trial in trials)
    points = [SelectionParams.from_dict(trial.params) for trial in trials]
    assert len({*points, *(record.params for record in store.finished())}) == 7
    assert [of_next_launch.ask(settings.space).params for _ in points] == [
        point.as_dict() for point in points
    ]
