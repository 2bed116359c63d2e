from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import RunFailedError
from distcel.experiment.loading import load_experiment
from distcel.rules.learned_vote import _restricted, search_learned_vote, third_of
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.search.trials import TrialRecord, TrialStore
from distcel.train.checkpoint import EpochResult
from tests.made_data import write_images
from tests.rules.test_gating import task_of

NAMES = ("ant", "bee", "cow")


def test_a_third_of_the_learners() -> None:
    assert [third_of(n) for n in (2, 3, 15, 28, 55)] == [1, 1, 5, 9, 18]


@pytest.fixture
def run(tmp_path: Path) -> Prepared:
    """A run of six learners whose own search has two finished trials and one that was killed."""
    write_images(tmp_path / "data", NAMES, 20, 3, 32, 0)
    options = Options("smoke", tmp_path / "data", tmp_path, 0, 9, 1.0, "sqlite:///unused.db")
    prepared = prepare(load_experiment("folder", "smoke"), options)
    store = TrialStore(prepared.search_folder / "trials")
    epochs = (EpochResult(1, 1.0, 1.0, 0.5, 0.1, 1_800_000_000_000),)
    for number, state in enumerate(("COMPLETE", "FAILED", "RUNNING")):
        store.keep(TrialRecord(number, prepared.search.first, state, epochs))  # type: ignore[arg-type]
    return prepared


def test_it_has_the_runs_search_space_with_few_learners(run: Prepared) -> None:
    one = replace(run.search.first, k=1)
    own = _restricted(replace(run, search=replace(run.search, first=one)))
    assert own.search.space["k"] == IntDistribution(1, 2, log=True)
    assert own.search.space["vote"] == CategoricalDistribution(["learned"])
    assert {**own.search.space, "k": 0, "vote": 0} == {**run.search.space, "k": 0, "vote": 0}
    assert (own.search.first.k, own.search.first.vote) == (2, "learned")
    assert own.search_key != run.search_key
    # As many trials as are done, in whatever time they take: no later launch adds any.
    assert (own.search.num_samples, own.search.time_budget) == (2, None)


@pytest.mark.parametrize(("fixed", "found"), [(1, [1]), (2, [2]), (6, [2])])
def test_a_fixed_k_is_kept_as_far_as_a_third(run: Prepared, fixed: int, found: list[int]) -> None:
    space = run.search.space | {"k": CategoricalDistribution([fixed])}
    own = _restricted(replace(run, search=replace(run.search, space=space)))
    assert own.search.space["k"] == CategoricalDistribution(found)
    assert own.search.first.k == found[0]


def test_a_step_of_k_is_kept(run: Prepared) -> None:
    space = run.search.space | {"k": IntDistribution(1, 5, step=2)}
    own = _restricted(replace(run, search=replace(run.search, space=space)))
    assert own.search.space["k"] == IntDistribution(1, 1, step=2)  # of 1, 3 and 5, at most 2
    assert own.search.first.k == 1


def test_what_is_found_is_kept(
    run: Prepared,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def messages() -> str:
        """Since the last call: the trials' and, at the end, the refit's."""
        found = "\n".join(caplog.messages)
        caplog.clear()
        return found

    caplog.set_level("INFO", "distcel")
    task = task_of(epochs=2)
    found = search_learned_vote(run, task, InlineExecutor())
    assert found is not None
    chosen, trial = found
    assert trial.params.vote == "learned"
    assert trial.params.chosen_k <= 2
    assert chosen.network.weights["vote.matrices_NCC"].shape == (4, 4, 4)
    assert messages().count(": valid") == 2 + 1  # two trials and the refit
    predicted = chosen.predict(task, task.valid).argmax(-1).numpy()
    assert (predicted == task.valid.labels_S).mean() == trial.valid_accuracy
    again = search_learned_vote(run, task, InlineExecutor())
    assert again is not None
    assert (again[1], again[0].seconds) == (trial, chosen.seconds)
    refit = sum(epoch.seconds for epoch in trial.epochs)
    assert chosen.seconds > refit > 0
    assert messages().count(": valid") == 1  # no trial before the refit


def test_the_comparison_continues_without_a_complete_trial(
    run: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (0, 1):
        (run.search_folder / "trials" / f"{number:05d}.json").unlink()
    assert search_learned_vote(run, task_of(epochs=2), InlineExecutor()) is None
    assert "no trial of the search is complete" in caplog.text


def test_a_worker_that_is_lost_repeatedly_ends_the_comparison(
    run: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise RunFailedError("the refit of trial 0 failed: its worker was lost")

    monkeypatch.setattr("distcel.rules.learned_vote.refit_best", failing)
    with pytest.raises(RunFailedError, match="its worker was lost"):
        search_learned_vote(run, task_of(epochs=2), InlineExecutor())
