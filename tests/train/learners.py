"""A few base learners of the digits, with a cache of their own."""

from __future__ import annotations

from pathlib import Path

from distcel.core.networks import NetworkPlan
from distcel.data.splits import Probabilities, Splits
from distcel.execute.jobs import Executor
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment
from distcel.train.cache import PredictionCache
from distcel.train.learner import learner_key, train_learners
from distcel.train.selection import TrainingTask

EXPERIMENT = load_experiment("digits", "smoke")


class Learners:
    """The first learners of an experiment, and the cache of their results."""

    def __init__(
        self,
        splits: Splits,
        folder: Path,
        experiment: Experiment = EXPERIMENT,
        n_learners: int = 4,
    ) -> None:
        shape = splits.image_shape
        plan = NetworkPlan(experiment.network, shape, *splits.channel_statistics())
        self.splits, self.cache = splits, PredictionCache(folder)
        self.task = TrainingTask(experiment, plan, splits, seed=0)
        self.specs = learner_specs(splits.class_names)[:n_learners]
        self.keys = [learner_key(experiment, spec, splits, plan, 0) for spec in self.specs]

    def train(self, executor: Executor) -> int:
        return train_learners(self.task, self.specs, self.keys, self.cache, executor)

    def probs(self) -> Probabilities:
        return self.cache.load(self.specs, self.keys, self.splits["test"], "test").probs_SNC
