"""Every shipped configuration is run, on small made-up data, through the real stages."""

from collections.abc import Callable
from dataclasses import astuple, replace
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
import torch
from mlflow import MlflowClient
from optuna.distributions import IntDistribution

import distcel.search_spaces
from distcel import pipeline
from distcel.data.readers import FER2013_CLASSES, READERS
from distcel.data.splits import Split
from distcel.execute.inline import InlineExecutor
from distcel.experiment.errors import InvalidInputError
from distcel.experiment.loading import DATASETS, PRESET_NAMES, load_experiment
from distcel.experiment.space import search_space
from distcel.experiment.types import Experiment, Gradient, Precision, SplitName, first_point
from distcel.search.options import Options
from distcel.search.prepare import Prepared, prepare
from distcel.serve.saved import load_ensemble
from tests import made_data as data


def write_fer2013(folder: Path) -> None:
    """PrivateTest has half as many of three classes: its accuracy is another, whatever is said."""
    data.write_fer2013_folders(folder)
    for name in FER2013_CLASSES[4:]:
        for path in sorted((folder / "test" / name).glob("PrivateTest_*"))[::2]:
            path.unlink()


WRITERS: dict[str, Callable[[Path], None]] = {
    "digits": lambda folder: folder.mkdir(),
    "mnist": data.write_idx,
    "fashion_mnist": data.write_idx,
    "cifar10": data.write_cifar10,
    "fer2013": write_fer2013,
    "utkface": data.write_utkface,
    "folder": lambda folder: data.write_images(folder, ("ant", "bee", "cow"), 20, 3, 40, 0),
}
SHIPPED = [
    (dataset, preset)
    for dataset in DATASETS
    for preset in import_module(f"distcel.search_spaces.{dataset}").PRESETS
]
N_LEARNERS = {"fer2013": 28, "utkface": 15, "folder": 6}


def test_presets_are_those_that_the_help_names() -> None:
    assert {preset for _, preset in SHIPPED} == set(PRESET_NAMES)
    with pytest.raises(InvalidInputError, match="'paper'\\), those of digits"):
        load_experiment("digits", "half_day")


def test_every_file_is_listed() -> None:
    (folder,) = map(Path, distcel.search_spaces.__path__)
    others = {"__init__", "common", "select"}  # of a selection, whose data are the user's
    assert {path.stem for path in folder.glob("*.py")} - others == set(DATASETS)
    assert set(DATASETS) == set(READERS)


@pytest.mark.parametrize(("dataset", "preset"), SHIPPED)
def test_every_experiment_is_valid(dataset: str, preset: str) -> None:
    experiment = load_experiment(dataset, preset)
    n_learners = N_LEARNERS.get(dataset, 55)
    space = search_space(experiment, n_learners, {})
    point = first_point(experiment, n_learners, {})
    assert all(space[name]._contains(value) for name, value in _internal(space, point).items())
    gradients = space["gradient"].choices  # type: ignore[attr-defined]
    if preset == "paper":  # whose first point is the paper's, and k a hyperparameter
        assert set(gradients) == set(get_args(Gradient))
        assert space["k"] == IntDistribution(1, n_learners, log=True)
        assert point.gradient == ("exact" if dataset == "folder" else "paper")
    if preset in ("quick", "half_day"):
        assert point.k == "any"
        assert gradients == ("exact",)
    assert (experiment.published is not None) == (
        dataset in ("mnist", "cifar10", "fer2013", "utkface")
    )
    assert experiment.note


@pytest.mark.parametrize(
    ("dataset", "table_1", "table_2", "k"),
    [
        ("mnist", "97.5 / 86.8 / 89.6", "98.55 / 96.88 / 96.81 / 95.99 / 96.83", 10),
        ("utkface", "93.2 / 25.2 / 51.2", "90.97 / 85.07 / 84.60 / 80.78 / 84.60", 7),
        ("fer2013", "79.4 / 38.1 / 47.8", "66.31 / 64.95 / 63.89 / 63.15 / 63.89", 13),
        ("cifar10", "76.3 / 24.8 / 31.1", "64.09 / 60.13 / 60.59 / 60.35 / 60.59", 10),
    ],
)
def test_the_papers_numbers_are_its(dataset: str, table_1: str, table_2: str, k: int) -> None:
    published = load_experiment(dataset, "paper").published
    assert published is not None
    *percent, best_k = astuple(published)
    expected = [float(number) for number in f"{table_1} / {table_2}".split(" / ")]
    assert [100 * share for share in percent] == pytest.approx(expected)
    assert best_k == k


def test_a_published_recipe_is_in_float32_and_quick_ones_leave_it_to_the_machine() -> None:
    automatic = set()
    for dataset, preset in SHIPPED:
        experiment = load_experiment(dataset, preset)
        found = {experiment.learner_recipe.precision, experiment.selector_recipe.precision}
        assert found in ({"float32"}, {"auto"})
        automatic |= {(dataset, preset)} if found == {"auto"} else set()
    assert automatic == {("fer2013", "quick"), ("fer2013", "half_day"), ("folder", "quick")}


def _internal(space: dict, point) -> dict[str, float]:  # type: ignore[no-untyped-def, type-arg]
    return {name: space[name].to_internal_repr(v) for name, v in point.as_dict().items()}


def _trained_in(precision: Precision, experiment: Experiment) -> Experiment:
    recipes = (experiment.learner_recipe, experiment.selector_recipe)
    learner, selector = (replace(recipe, precision=precision) for recipe in recipes)
    return replace(experiment, learner_recipe=learner, selector_recipe=selector)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_runs_to_its_tables(
    dataset: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "distcel")
    WRITERS[dataset](tmp_path / "data")
    vote = "learned" if dataset == "folder" else "sum"
    options = Options(
        preset="smoke",
        data_dir=tmp_path / "data",
        run_dir=tmp_path / "runs" / "run",
        seed=0,
        num_samples=None,
        time_budget=None,
        mlflow_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        fixed={"m": 2, "vote": vote},
    )
    precision: Precision = "bfloat16" if dataset == "utkface" else "float32"
    prepared = prepare(_trained_in(precision, load_experiment(dataset, "smoke")), options)
    read, cached = list[str](), Prepared.cached

    def noted(of: Prepared, split: SplitName) -> Split:
        closed = (of.search_folder / "trials" / "closed").is_file()
        assert closed == (split == "test"), "nothing is chosen once the test split was read"
        read.append(split)
        return cached(of, split)

    monkeypatch.setattr(Prepared, "cached", noted)
    results = pipeline.launch(prepared, InlineExecutor())
    assert read == ["train", "valid", "test"]
    assert results["test_read_after"] == [results["n_trials"]]
    assert results["n_learners"] == N_LEARNERS.get(dataset, 55)
    assert (results["private_test_accuracy"] is not None) == (dataset == "fer2013")
    assert results["best"]["vote"] == vote
    assert set(results["precision"].values()) == {precision}
    test = prepared.splits["test"]
    chosen = load_ensemble(options.run_dir / "ensemble")(torch.tensor(test.images_SCHW)).argmax(-1)
    right = chosen.numpy() == test.labels_S
    assert right.mean() == pytest.approx(results["accuracy"]["e2e_cel"])
    if dataset == "fer2013":
        private = ["PrivateTest" in sample_id for sample_id in test.sample_ids.to_pylist()]
        alone = results["private_test_accuracy"]["e2e_cel"]
        assert right[private].mean() == pytest.approx(alone) != right.mean()
    client = MlflowClient(options.mlflow_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert len(client.search_runs(experiments, f"params.fixed = 'm=2 vote={vote}'")) == 1
    printed = "\n".join(caplog.messages)
    for title in ("Table 1", "Table 2", "Table 3"):
        assert title in printed
    assert f"trained in {precision}: base learners and selection net" in printed
    assert (tmp_path / "runs" / "run" / "report.md").read_text() in printed


def test_unknown_names_are_answered_with_the_list() -> None:
    with pytest.raises(InvalidInputError, match=r"--dataset in \('digits', .* but got 'imagenet'"):
        load_experiment("imagenet", "quick")
    with pytest.raises(InvalidInputError, match=r"--preset in \('smoke', .* but got 'slow'"):
        load_experiment("digits", "slow")
