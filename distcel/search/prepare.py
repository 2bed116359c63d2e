"""Reads and checks the input of a launch before anything is started."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import distribution_to_json

from distcel.core.networks import NetworkPlan
from distcel.core.pretrained import STANDARDISATION, imagenet_weights
from distcel.data.answers import Answers
from distcel.data.splits import Split, Splits, load_splits
from distcel.data.subsets import Fold, digest_without, held_out_parts, hold_out, specs_of
from distcel.experiment.architecture import Architecture
from distcel.experiment.errors import require
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.prices import Prices
from distcel.experiment.space import require_within, search_space
from distcel.experiment.types import Experiment, SplitName, first_point
from distcel.search.options import Options, run_title
from distcel.search.search import SearchSettings
from distcel.storage.files import content_key
from distcel.storage.ledger import ledger_path, record_reading
from distcel.storage.provenance import describe_commit
from distcel.train import selection
from distcel.train.cache import PredictionCache, cross_fitted
from distcel.train.learner import learner_key
from distcel.train.precision import resolved
from distcel.train.selection import TrainingTask


@dataclass(frozen=True)
class Prepared:
    """A launch whose input has been read and checked; Ray has not started yet.

    Attributes:
        experiment: the experiment.
        options: the options of the launch.
        splits: the data; the learners that vote are trained on their `train`.
        specs: the base learners.
        keys: the cache keys of the learners that vote.
        folds: the folds of `crossfit`, with the keys of the copies; empty otherwise.
        plan: builds the networks.
        search: the settings of the search.
        commit: the code's commit, as `provenance.describe_commit` returns it.
        answers: what predictors answered that were not trained here; None for base learners.
        prices: the prices of the learners' answers, where the selection depends on them.
    """

    experiment: Experiment
    options: Options
    splits: Splits
    specs: tuple[LearnerSpec, ...]
    keys: tuple[str, ...]
    folds: tuple[Fold, ...]
    plan: NetworkPlan
    search: SearchSettings
    commit: str | None
    answers: Answers | None = None
    prices: Prices | None = None

    @property
    def cache(self) -> PredictionCache:
        """The predictions of the base learners that vote."""
        folder = self.options.run_dir / "learners"
        if self.options.selector_split == "holdout":
            return PredictionCache(folder, ("holdout", "valid", "test"))
        return PredictionCache(folder)

    @property
    def copies_cache(self) -> PredictionCache:
        """The predictions of the copies, each for its own fold alone."""
        return PredictionCache(self.options.run_dir / "learners", ("holdout",))

    def learner_task(self, fold: Fold | None = None) -> TrainingTask:
        """The task of the learners that vote, or of their copies that do not see a fold."""
        splits = hold_out(self.splits, fold.held_out_S) if fold else self.splits
        return TrainingTask(self.experiment, self.plan, splits, self.options.seed)

    def selection_task(self) -> TrainingTask:
        """The task of trials and rules: train and valid with predictions, without test."""
        by_name: dict[SplitName, Split] = {name: self.cached(name) for name in ("train", "valid")}
        splits = replace(self.splits, by_name=by_name)
        return TrainingTask(self.experiment, self.plan, splits, self.options.seed, self.prices)

    def cached(self, split: SplitName) -> Split:
        """One split with the predictions of all base learners.

        `train` gives the samples that the selection net is trained on: with `holdout` those that
        are held out, with `crossfit` all of them with the predictions of the copies.
        """
        if self.answers is not None:
            return self.splits[split]
        selector_split = self.options.selector_split
        if split == "train" and selector_split == "crossfit":
            return cross_fitted(self.copies_cache, self.specs, self.folds, self.splits[split])
        if split == "train" and selector_split == "holdout":
            split = "holdout"
        return self.cache.load(self.specs, self.keys, self.splits[split], split)

    def read_test(self, purpose: str) -> tuple[Split, int]:
        """The test split with all predictions, once the ledger of the data set has the reading.

        Args:
            purpose: what it is read for, for the ledger.

        Returns:
            Split: the samples.
            int: how often the same samples have been read by any run beside this one, this time
            included.
        """
        dataset, run_dir = self.experiment.dataset, self.options.run_dir
        split = content_key([dataset, self.splits["test"].sample_ids.to_pylist()])
        reader = {"key": self.search_key, "run": run_dir.name, "for": purpose}
        count = record_reading(ledger_path(run_dir, dataset), split, reader)
        return self.cached("test"), count

    def facts(self) -> dict[str, Any]:
        """The content of `run.json`, which describes the launch."""
        options, jobs = self.options, zip(self.specs, self.keys, strict=True)
        return {
            "dataset": self.experiment.dataset,
            "preset": options.preset,
            "seed": options.seed,
            "selector_split": options.selector_split,
            "fixed": dict(options.fixed),
            "data_dir": None if options.images else str(options.data_dir.absolute()),
            "imagenet_weights": options.imagenet_weights,
            "num_samples": self.search.num_samples,
            "search_key": self.search_key,
            "class_names": list(self.splits.class_names),
            "learners": [{"name": spec.name, "key": key} for spec, key in jobs],
            "copies": [list(fold.keys) for fold in self.folds],
            "predictions": str(options.data_dir.absolute()) if self.answers else None,
            "prices": asdict(self.prices) if self.prices else None,
        }

    @property
    def title(self) -> str:
        """The title of the run in MLflow and in its report."""
        options = self.options
        dataset, split = self.experiment.dataset, options.selector_split
        name = run_title(dataset, options.preset, split, options.fixed)
        return f"{name}, seed {options.seed}"

    @property
    def search_folder(self) -> Path:
        """The folder of the search's trials and networks."""
        return self.options.run_dir / "search" / self.search_key

    @cached_property
    def search_key(self) -> str:
        """The digest of everything but its parameters that determines a trial's result."""
        space = {name: distribution_to_json(d) for name, d in self.search.space.items()}
        recipe = self.experiment.selector_recipe.description()
        keys: list[object] = [*self.keys]
        if self.options.selector_split != "train":
            keys += [self.options.selector_split, [fold.keys for fold in self.folds]]
        if self.prices is not None:
            keys.append(asdict(self.prices))
        seed, versions = self.options.seed, [torch.__version__, selection.CACHE_VERSION]
        return content_key([keys, recipe, space, seed, versions])


def prepare(experiment: Experiment, options: Options) -> Prepared:
    """Read the data and check all of the user's input.

    Raises:
        InvalidInputError: a part of the input is unusable.
    """
    experiment = resolved(experiment)  # here alone, before any key: workers take it as it is
    data = options.images or options.data_dir
    splits = load_splits(experiment, data, options.run_dir / "data", options.seed)
    labels_S = splits["train"].labels_S
    specs = specs_of(experiment, splits.class_names, labels_S, options.seed)
    search = _search_settings(experiment, options, len(specs))
    plan = _network_plan(experiment, options, splits)
    plan.build(len(specs), options.seed)  # the architecture must fit the images
    require_memory(len(labels_S), len(specs), len(splits.class_names))

    def keys(of: Splits) -> tuple[str, ...]:
        return tuple(learner_key(experiment, spec, of, plan, options.seed) for spec in specs)

    share = experiment.holdout_share
    parts = held_out_parts(labels_S, options.selector_split, options.seed, share)
    if options.selector_split == "holdout":
        splits = hold_out(splits, parts.pop())
    # A key needs the digest alone, so the images are not copied.
    folds = (Fold(p, keys(replace(splits, digest=digest_without(splits, p)))) for p in parts)
    return Prepared(
        experiment,
        options,
        splits,
        specs,
        keys(splits),
        tuple(folds),
        plan,
        search,
        commit=describe_commit(),
    )


def prepare_answers(
    experiment: Experiment, options: Options, answers: Answers, prices: Prices | None
) -> Prepared:
    """Check the input of a launch on predictors that were not trained here.

    Raises:
        InvalidInputError: a part of the input is unusable.
    """
    experiment, splits = resolved(experiment), answers.splits
    n_learners = len(answers.names)
    n_selectable = n_learners - prices.n_always if prices else n_learners
    search = _search_settings(experiment, options, n_selectable)
    plan = _network_plan(experiment, options, splits)
    plan.build(n_learners, options.seed)  # the architecture must fit what the net sees
    return Prepared(
        experiment,
        options,
        splits,
        specs=tuple(LearnerSpec(name, ()) for name in answers.names),
        keys=tuple(content_key([splits.digest, name]) for name in answers.names),
        folds=(),
        plan=plan,
        search=search,
        commit=describe_commit(),
        answers=answers,
        prices=prices,
    )


def _search_settings(experiment: Experiment, options: Options, n_learners: int) -> SearchSettings:
    search = SearchSettings(
        space=search_space(experiment, n_learners, options.fixed),
        first=first_point(experiment, n_learners, options.fixed),
        max_epochs=experiment.selector_recipe.epochs,
        seed=options.seed,
        num_samples=options.num_samples or experiment.num_samples,
        time_budget=options.time_budget,
    )
    require_within(search.space, search.first)
    return search


def _network_plan(experiment: Experiment, options: Options, splits: Splits) -> NetworkPlan:
    architecture, image_shape = experiment.network, splits.image_shape
    if isinstance(architecture, Architecture) and architecture.family in STANDARDISATION:
        weights = imagenet_weights(architecture.family, options.imagenet_weights)
        if weights is not None:
            mean, std = STANDARDISATION[architecture.family]
            return NetworkPlan(architecture, image_shape, mean, std, weights)
    return NetworkPlan(architecture, image_shape, *splits.channel_statistics())


def require_memory(n_samples: int, n_learners: int, n_classes: int) -> None:
    """Raise InvalidInputError if the predictions for train do not fit into half of the memory."""
    needed = n_samples * n_learners * n_classes * 4
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rule = f"predictions within half of the memory, {physical / 2e9:.0f} GB"
    remedy = f"{n_learners} learners predict {n_classes} classes; choose other learner_sets"
    require(needed < physical / 2, rule, f"{needed / 1e9:.0f} GB", remedy)
