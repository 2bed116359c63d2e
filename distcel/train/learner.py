"""Trains the specialised base learners, and computes the keys that their results are cached by."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from distcel.core.networks import NetworkPlan
from distcel.data.formats import Indices, Labels
from distcel.data.splits import Splits
from distcel.data.subsets import training_indices
from distcel.execute.jobs import Executor, Failed, Progress, Work
from distcel.execute.progress import StageBegan, with_event
from distcel.experiment.errors import DivergedError
from distcel.experiment.learner_sets import Clients, LearnerSpec
from distcel.experiment.types import Experiment, SplitName
from distcel.storage.files import content_key
from distcel.train.cache import PredictionCache, TrainedLearner
from distcel.train.checkpoint import load_training, save_training
from distcel.train.loop import Training, augment, predict, to_tensor
from distcel.train.selection import TrainingTask

logger = logging.getLogger(__name__)

# Time between two kept states of a learner; an interrupted training continues from the last one.
_SECONDS_BETWEEN_STATES = 5.0

# Part of every base learner's key. Raise it with every change that gives other numbers from equal
# data, recipe, seed and libraries: a change of the networks, the training loop, a learner's samples
# or the state of a training. tests/train/test_golden.py fails if it was forgotten.
CACHE_VERSION = 1


@dataclass(frozen=True)
class LearnerJob:
    """The training of one base learner, whose results go to the cache."""

    spec: LearnerSpec
    key: str
    splits: Splits
    cache: PredictionCache

    @property
    def title(self) -> str:
        """The names of the classes that the learner specialises in."""
        return self.spec.name

    @property
    def work(self) -> Work:
        """`train_learner` with this learner's arguments."""
        return partial(
            train_learner,
            self.spec,
            predicted=self.cache.split_names,
            seconds_between_states=_SECONDS_BETWEEN_STATES,
        )

    def is_kept(self) -> bool:
        """Whether the learner's weights and predictions are in the cache."""
        return self.cache.holds(self.spec, self.key)

    def state(self) -> bytes | None:
        """The kept state of an interrupted training, if any."""
        return self.cache.state(self.spec, self.key)

    def keep_state(self, state: bytes) -> None:
        """Keep the state in the cache."""
        self.cache.keep_state(self.spec, self.key, state)

    def keep(self, result: Any) -> None:
        """Write weights and predictions to the cache.

        Raises:
            DivergedError: the training diverged; the ensemble needs every learner.
        """
        if isinstance(result, Failed):
            raise DivergedError(f"learner {self.spec.name}: {result.reason}")
        self.cache.write(self.spec, self.key, self.splits, result)


def train_learners(
    task: TrainingTask,
    specs: Sequence[LearnerSpec],
    keys: Sequence[str],
    cache: PredictionCache,
    executor: Executor,
    what: str = "base learners",
) -> int:
    """Train the learners that are not in the cache; returns their number.

    Args:
        task: the task that they are trained on.
        specs: the learners.
        keys: their keys in the cache, in the same order.
        cache: keeps the results.
        executor: runs the trainings.
        what: what they are called in the log.

    Raises:
        DivergedError: a learner's loss became NaN or infinite.
        RunFailedError: workers were lost repeatedly.
    """
    jobs = [
        LearnerJob(spec, key, task.splits, cache) for spec, key in zip(specs, keys, strict=True)
    ]
    missing = [job for job in jobs if not job.is_kept()]
    n, kept = len(jobs), len(jobs) - len(missing)
    stage = with_event(StageBegan(what, n, kept))
    logger.debug("%s: %d, of which %d are in the cache", what, n, kept, extra=stage)
    if not missing:  # then the images need not be shared
        return 0
    missing.sort(key=lambda job: -len(job.spec.classes))
    return executor.run(missing, executor.share(task), "base learner")


def learner_key(
    experiment: Experiment, spec: LearnerSpec, splits: Splits, plan: NetworkPlan, seed: int
) -> str:
    """The digest of everything that determines a learner: data, recipe, seed and versions."""
    sets = experiment.learner_sets
    return content_key(
        {
            "splits": splits.digest,
            "spec": spec.description(),
            **({"clients": asdict(sets)} if isinstance(sets, Clients) else {}),
            "share": experiment.specialty_share,
            "plan": plan.description(),
            "recipe": experiment.learner_recipe.description(),
            "seed": seed,
            "versions": [torch.__version__, version("torchvision"), np.__version__],
            "cache_version": CACHE_VERSION,
        }
    )


def _learner_seed(spec: LearnerSpec, seed: int) -> int:
    return int(content_key([seed, spec.name])[:15], 16)


def _training_samples(
    spec: LearnerSpec, labels_S: Labels, experiment: Experiment, seed: int
) -> Indices:
    return training_indices(labels_S, spec, experiment, seed, _learner_seed(spec, seed))


def training_priors(
    specs: Sequence[LearnerSpec], labels_S: Labels, experiment: Experiment, seed: int
) -> NDArray[np.float64]:
    """The share of each class in the training samples of each learner, shape (N, C).

    Args:
        specs: the N learners.
        labels_S: labels of the split that they are trained on, shape (S,), with every class.
        experiment: has their specialty share.
        seed: the run's.
    """
    drawn = [labels_S[_training_samples(spec, labels_S, experiment, seed)] for spec in specs]
    n_classes = int(labels_S.max()) + 1
    counts_NC = np.stack([np.bincount(own, minlength=n_classes) for own in drawn])
    priors_NC: NDArray[np.float64] = counts_NC / counts_NC.sum(1, keepdims=True)
    return priors_NC


def train_learner(
    spec: LearnerSpec,
    task: TrainingTask,
    device: torch.device,
    state: bytes | None = None,
    *,
    predicted: Sequence[SplitName],
    seconds_between_states: float = math.inf,
) -> Iterator[Progress | TrainedLearner]:
    """Train one base learner; yields progress after every epoch and, last, the results.

    Args:
        spec: the classes that it specialises in.
        task: the task that it is trained on.
        device: the device that it is trained on.
        state: the state to continue from, of an earlier `Progress` of the same learner.
        predicted: the splits to predict.
        seconds_between_states: the least time between two `Progress` with a state.

    Raises:
        DivergedError: the loss became NaN or infinite.
    """
    seed = _learner_seed(spec, task.seed)
    recipe = task.experiment.learner_recipe
    names: dict[SplitName, None] = dict.fromkeys(("train", *predicted))
    images = {name: to_tensor(task.splits[name].images_SCHW, device) for name in names}
    train_images, labels_S = images["train"], to_tensor(task.train.labels_S, device)
    n_classes = len(task.splits.class_names)
    network = task.plan.build(n_classes, seed, recipe.in_bfloat16).to(device)
    own_S = _training_samples(spec, task.train.labels_S, task.experiment, task.seed)

    def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
        pictures = augment(train_images[batch_B], recipe.augmentation, generator)
        return cross_entropy(network(pictures), labels_S[batch_B])

    run = Training(network, batch_loss, torch.from_numpy(own_S).to(device), recipe, seed)
    if state is not None:
        load_training(run, state)
    saved = time.monotonic()
    while run.epoch < recipe.epochs:
        loss = run.run_epoch()
        due = time.monotonic() - saved >= seconds_between_states and run.epoch < recipe.epochs
        yield Progress(run.epoch, loss, save_training(run) if due else None, len(own_S))
        saved = time.monotonic() if due else saved
    probs = {name: predict(network, images[name]).softmax(-1).cpu().numpy() for name in predicted}
    weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    yield TrainedLearner(probs, weights, run.seconds)
