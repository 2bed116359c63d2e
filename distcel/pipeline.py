"""The stages in their order: data, base learners, search, refit, test. Each one resumes."""

from __future__ import annotations

import inspect
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from optuna.distributions import BaseDistribution, distribution_to_json

from distcel import ensemble, knapsack, training
from distcel.datasets import Splits, load_splits
from distcel.ensemble import SmartEnsemble
from distcel.fleet import ActorPool, Fleet
from distcel.knapsack import KnapsackLayer
from distcel.learners import learner_key
from distcel.networks import IMAGENET_MEAN, IMAGENET_STD, NetworkPlan, imagenet_weights
from distcel.predictions import CachedSplit, PredictionCache
from distcel.report import Evaluation, evaluate, tables, vote
from distcel.search import SelectionTask, refit, run_search, search_space
from distcel.standalone import save_ensemble
from distcel.storage import content_key, write_atomically, write_json
from distcel.tracking import LiveUpdates, Tracker
from distcel.trials import TrialStore, best_trial
from distcel.types import (
    Experiment,
    LearnerSpec,
    SplitName,
    TrialRecord,
    first_point,
    learner_specs,
)

_PACKAGES = ("distcel", "torch", "torchvision", "ray", "optuna", "mlflow", "pyarrow", "numpy")


@dataclass(frozen=True)
class Options:
    """What a launch chooses beside the experiment.

    Attributes:
        preset: name of the experiment's preset, for titles.
        data_dir: where the data are.
        run_dir: where everything that is made goes.
        seed: of the valid split, the networks, the layer's noise and the search.
        num_samples: trials in all; None takes the experiment's.
        time_budget: seconds for the search; None sets no limit.
        mlflow_uri: absolute tracking URI.
        imagenet_weights: where a ResNet18 starts from, as `networks.imagenet_weights` takes it.
        fixed: hyperparameters that are not searched.
    """

    preset: str
    data_dir: Path
    run_dir: Path
    seed: int
    num_samples: int | None
    time_budget: float | None
    mlflow_uri: str
    imagenet_weights: str = "torchvision"
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A launch whose input is read and found valid; nothing of Ray has started yet."""

    experiment: Experiment
    options: Options
    splits: Splits
    specs: tuple[LearnerSpec, ...]
    keys: tuple[str, ...]
    plan: NetworkPlan
    space: Mapping[str, BaseDistribution]
    seconds: dict[str, float]

    @property
    def cache(self) -> PredictionCache:
        """The predictions of the base learners."""
        return PredictionCache(self.options.run_dir / "learners")

    def cached(self, split: SplitName) -> CachedSplit:
        """One split with the predictions of all base learners."""
        return self.cache.load(self.specs, self.keys, self.splits[split], split)

    @property
    def title(self) -> str:
        """What the run is called in MLflow and in its report."""
        return f"{self.experiment.dataset}, preset {self.options.preset}, seed {self.options.seed}"

    @property
    def num_samples(self) -> int:
        """Trials in all."""
        return self.options.num_samples or self.experiment.num_samples

    def search_key(self) -> str:
        """The digest of everything that determines a trial's result, but for its parameters."""
        code = [inspect.getsource(module) for module in (knapsack, ensemble, training)]
        space = {name: distribution_to_json(d) for name, d in sorted(self.space.items())}
        recipe = asdict(self.experiment.selector_recipe)
        return content_key([self.keys, recipe, space, self.options.seed, torch.__version__, code])


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - started, 2)


def prepare(experiment: Experiment, options: Options) -> Prepared:
    """Read the data and check everything that the user gave.

    Raises:
        InvalidInputError: something of it is unusable.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "data"):
        splits = load_splits(experiment, options.data_dir, options.run_dir / "data", options.seed)
    specs = learner_specs(splits.class_names)
    space = search_space(experiment, len(specs), options.fixed)
    first_point(experiment, len(specs), options.fixed)
    plan = _network_plan(experiment, options, splits)
    plan.build(len(specs), options.seed)  # the architecture must fit the images
    keys = tuple(learner_key(experiment, spec, splits, plan, options.seed) for spec in specs)
    return Prepared(experiment, options, splits, specs, keys, plan, space, seconds)


def _network_plan(experiment: Experiment, options: Options, splits: Splits) -> NetworkPlan:
    architecture, image_shape = experiment.architecture, splits.image_shape
    if architecture.family == "resnet18":
        weights = imagenet_weights(options.imagenet_weights)
        if weights is not None:
            return NetworkPlan(architecture, image_shape, IMAGENET_MEAN, IMAGENET_STD, weights)
    return NetworkPlan(architecture, image_shape, *splits.channel_statistics())


def run(prepared: Prepared, pool: ActorPool) -> dict[str, Any]:
    """Run the stages that are not done yet, on the cluster that Ray is connected to.

    Returns:
        dict: the content of `results.json`, whose keys the README lists.
    """
    experiment, options, seconds = prepared.experiment, prepared.options, prepared.seconds
    with _timed(seconds, "base_learners"):
        fleet = Fleet(
            experiment, prepared.splits, prepared.cache, pool, prepared.plan, options.seed
        )
        trained = fleet.train(prepared.specs, prepared.keys)
    print(f"{trained} base learners trained, {len(prepared.keys) - trained} from the cache")

    train, valid = prepared.cached("train"), prepared.cached("valid")
    task = SelectionTask(experiment, prepared.plan, train, valid, options.seed)
    key = prepared.search_key()
    folder = options.run_dir / "search" / key
    store = TrialStore(folder / "trials")
    tracker = _tracker(prepared, key)
    with _timed(seconds, "search"), LiveUpdates(tracker, store.snapshot):
        n, budget = prepared.num_samples, options.time_budget
        records = run_search(task, store, pool, folder / "tune", n, budget, options.fixed)
    best = best_trial(records)
    with _timed(seconds, "refit"):
        weights, last_epoch = refit(task, best.params, pool)
    best = replace(best, epochs=(last_epoch,))
    print(f"refit of trial {best.number}: valid {best.valid_accuracy:.4f}")

    with _timed(seconds, "test"):
        evaluations = _test(prepared, best, weights, train)
    report = tables(experiment, evaluations, best, len(prepared.specs), prepared.title)
    results = _results(prepared, best, evaluations)
    _save(prepared, best, weights)
    _publish(prepared, tracker, report, results)
    print(report)
    return results


def _test(
    prepared: Prepared, best: TrialRecord, weights: Mapping[str, Any], train: CachedSplit
) -> dict[str, Evaluation]:
    """Read the test split, this once; FER2013's PrivateTest, where it can be told, alone too."""
    net = prepared.plan.build(len(prepared.specs), prepared.options.seed)
    net.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    p = best.params
    smart = SmartEnsemble(net, KnapsackLayer(p.k, p.epsilon, p.m, p.gradient))
    test = prepared.cached("test")
    choices = vote(smart, train, test, prepared.options.seed)
    evaluations = {"": evaluate(choices, test, prepared.specs)}
    ids = prepared.splits["test"].sample_ids.to_pylist()
    private_S = np.array(["PrivateTest_" in sample_id for sample_id in ids])
    if private_S.any() and not private_S.all():
        chosen = {name: chosen[:, private_S] for name, chosen in choices.items()}
        title = f"PrivateTest alone ({private_S.sum()})"
        evaluations[title] = evaluate(chosen, test.where(private_S), prepared.specs)
    return evaluations


def _tracker(prepared: Prepared, key: str) -> Tracker:
    options, dataset = prepared.options, prepared.experiment.dataset
    tags = {
        "dataset": dataset,
        "preset": options.preset,
        "seed": str(options.seed),
        "run_dir": str(options.run_dir.resolve()),
    }
    artifacts = options.run_dir.parent / "mlflow-artifacts"
    return Tracker(options.mlflow_uri, dataset, prepared.title, key, tags, artifacts)


def _results(
    prepared: Prepared, best: TrialRecord, evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    published, (whole, *parts) = prepared.experiment.published, evaluations.values()
    return {
        "dataset": prepared.experiment.dataset,
        "preset": prepared.options.preset,
        "seed": prepared.options.seed,
        "n_learners": len(prepared.specs),
        "n_classes": len(prepared.splits.class_names),
        "best": best.params.as_dict(),
        "accuracy": dict(whole.accuracy),
        "private_test_accuracy": dict(parts[0].accuracy) if parts else None,
        "valid_accuracy": best.valid_accuracy,
        "specialised": whole.specialised,
        "complementary": whole.complementary,
        "overall": whole.overall,
        "paper": asdict(published) if published else None,
        "seconds": prepared.seconds,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
    }


def _save(prepared: Prepared, best: TrialRecord, weights: Mapping[str, Any]) -> None:
    learners = {
        spec.name: {
            name: torch.from_numpy(value)
            for name, value in prepared.cache.weights(spec, key).items()
        }
        for spec, key in zip(prepared.specs, prepared.keys, strict=True)
    }
    selection_net = {name: torch.tensor(value) for name, value in weights.items()}
    names, folder = prepared.splits.class_names, prepared.options.run_dir / "ensemble"
    save_ensemble(folder, prepared.plan, best.params, names, selection_net, learners)


def _publish(prepared: Prepared, tracker: Tracker, report: str, results: dict[str, Any]) -> None:
    run_dir = prepared.options.run_dir
    report_path, results_path = run_dir / "report.md", run_dir / "results.json"
    write_atomically(report_path, lambda file: file.write(report.encode()))
    write_json(results_path, results)
    accuracies = {f"test_{name}": value for name, value in results["accuracy"].items()}
    metrics = {**accuracies, "best_valid_accuracy": results["valid_accuracy"]}
    n_classes = len(prepared.splits.class_names)
    tracker.log_model(run_dir / "ensemble", prepared.splits.image_shape, n_classes)
    tracker.finish(metrics, [report_path, results_path])
