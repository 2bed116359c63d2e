from dataclasses import replace
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Precision
from distcel.search.options import Options, run_title
from distcel.search.prepare import Prepared, prepare

EXPERIMENT = replace(load_experiment("digits", "smoke"), max_samples=None)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(
        preset="smoke",
        data_dir=tmp_path,
        run_dir=tmp_path / "run",
        seed=0,
        num_samples=None,
        time_budget=None,
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )


def keys(prepared: Prepared) -> tuple[str, str]:
    """The keys of the first base learner and of the search."""
    return prepared.keys[0], prepared.search_key


def test_a_change_uses_no_old_result_and_a_reordering_uses_all(options: Options) -> None:
    first = keys(prepare(EXPERIMENT, options))
    same = replace(EXPERIMENT, space=dict(list(EXPERIMENT.space.items())[::-1]), note="x")
    more = replace(options, num_samples=99, time_budget=5.0, mlflow_uri="http://x")
    assert keys(prepare(same, more)) == first

    def changed(**changes: object) -> tuple[str, str]:
        return keys(prepare(replace(EXPERIMENT, **changes), options))  # type: ignore[arg-type]

    learner, selector = EXPERIMENT.learner_recipe, EXPERIMENT.selector_recipe
    high = 2 * EXPERIMENT.first_trial.lr
    of_learners = [
        changed(learner_recipe=replace(learner, lr=0.5)),
        changed(specialty_share=0.7),
        changed(max_samples=200),
        changed(valid_share=0.1),
        changed(test_share=0.3),
        keys(prepare(EXPERIMENT, replace(options, seed=1))),
    ]
    of_search = [
        changed(selector_recipe=replace(selector, epochs=selector.epochs + 1)),
        changed(space={**EXPERIMENT.space, "lr": FloatDistribution(0.1, high)}),
        keys(prepare(EXPERIMENT, replace(options, fixed={"k": 3}))),
    ]

    assert len({learner for learner, _ in [first, *of_learners]}) == 1 + len(of_learners)
    assert {learner for learner, _ in of_search} == {first[0]}
    every = [first, *of_learners, *of_search]
    assert len({search for _, search in every}) == len(every)


def test_auto_has_the_keys_of_the_precision_that_the_machine_gives_it(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = replace(EXPERIMENT, architecture=Architecture("lenet", (6, 32)))

    def prepared(precision: Precision) -> Prepared:
        recipes = (wide.learner_recipe, wide.selector_recipe)
        learner, selector = (replace(recipe, precision=precision) for recipe in recipes)
        return prepare(replace(wide, learner_recipe=learner, selector_recipe=selector), options)

    found = {precision: keys(prepared(precision)) for precision in ("float32", "bfloat16")}
    assert keys(prepare(wide, options)) == found["float32"]
    assert not set(found["float32"]) & set(found["bfloat16"])
    for hardware, precision in ((None, "float32"), ("AMX", "bfloat16")):
        monkeypatch.setattr("distcel.train.precision.bfloat16_hardware", lambda has=hardware: has)
        automatic = prepared("auto")
        assert keys(automatic) == found[precision]
        # The task that is sent to workers.
        assert automatic.learner_task().experiment.learner_recipe.precision == precision


@pytest.mark.parametrize(
    ("place", "learner_too"),
    [
        ("distcel.train.selection.CACHE_VERSION", False),
        ("distcel.train.learner.CACHE_VERSION", True),
        ("torch.__version__", True),
    ],
)
def test_a_search_begins_anew_by_another_version(
    place: str, learner_too: bool, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(prepare(EXPERIMENT, options))
    monkeypatch.setattr(place, "2.99")
    learner, search = keys(prepare(EXPERIMENT, options))
    assert search != before[1]
    assert (learner != before[0]) == learner_too


def test_a_first_trial_outside_the_space_is_refused_before_anything_is_trained(
    options: Options,
) -> None:
    far = replace(EXPERIMENT, first_trial=replace(EXPERIMENT.first_trial, epsilon=99.0))
    with pytest.raises(InvalidInputError, match="within the space, but got The value 99"):
        prepare(far, options)


def test_a_title_has_the_split_and_the_fixed_values() -> None:
    assert run_title("digits", "quick", "train", {}) == "digits, preset quick"
    title = run_title("digits", "quick", "crossfit", {"k": 10, "gradient": "exact"})
    assert title == "digits, preset quick, selector split crossfit, k = 10, gradient = exact"


def test_predictions_that_would_not_fit_into_memory_are_refused(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096}.get(name, 100))
    with pytest.raises(InvalidInputError, match="predictions within half of the memory"):
        prepare(EXPERIMENT, options)
