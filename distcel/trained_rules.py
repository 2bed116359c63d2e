"""The rules that a comparison trains: the smart ensemble at other k, and its rivals.

A comparison says which, and reads class probabilities (S, C):

    found = trained_rules(rules, task, ref, test, pool, search_folder / "rules")
    found["soft gating"].probs_SC
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distcel.actor_pool import ActorPool
from distcel.estimate import SampleCounts
from distcel.gating import GatedEnsemble
from distcel.kept_training import TrainableRule, train_missing
from distcel.predictions import CachedSplit, Probabilities
from distcel.selection import SelectionTask, TaskRef
from distcel.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.trained_network import TrainedNetwork
from distcel.types import SelectionParams

SINGLE, BRIEF_SINGLE = "single network", "brief single network"
SOFT_GATING = "soft gating"


@dataclass(frozen=True)
class TrainedRule:
    """What a trained rule says of the test split.

    Attributes:
        probs_SC: its class probabilities.
        valid_accuracy: of the same weights on the valid split, as a fraction.
        n_epochs: that it was trained for.
        n_passes: training samples seen, each as often as it was seen; the base learners' own are
            not in it.
        seconds: that its training took.
    """

    probs_SC: Probabilities
    valid_accuracy: float
    n_epochs: int
    n_passes: int
    seconds: float


def rules_beyond(
    task: SelectionTask, params: SelectionParams, counts: SampleCounts
) -> dict[str, TrainableRule]:
    """What the paper does not have, by its title, the longest training first.

    The single network sees as many samples as the whole ensemble did, rounded up to whole epochs,
    and a second one as many as the selection net did. All have the selection net's recipe and lr.
    """
    passes, n_samples = ensemble_passes(task.experiment, counts), len(task.train.labels_S)
    selector_epochs = task.experiment.selector_recipe.epochs
    return {
        SINGLE: SingleNetwork(epochs_of(passes, n_samples), params.lr),
        BRIEF_SINGLE: SingleNetwork(selector_epochs, params.lr),
        "straight-through top-k": GatedEnsemble("straight-through", params),
        SOFT_GATING: GatedEnsemble("soft gating", params),
    }


def trained_rules(
    rules: Mapping[str, TrainableRule],
    task: SelectionTask,
    ref: TaskRef,
    test: CachedSplit,
    pool: ActorPool,
    folder: Path,
) -> dict[str, TrainedRule]:
    """Train what is not trained yet, on workers, and then let each rule vote on the test split.

    Args:
        rules: by title, the longest training first.
        task: what the selection net was trained on.
        ref: the same in Ray's object store.
        test: the test split.
        pool: the resources of each worker.
        folder: where what is trained is kept for a later launch, in the search's own folder, whose
            name stands for data, recipes and seed.

    Returns:
        dict: by title; a rule that diverges is left out, and said so.

    Raises:
        RunFailedError: workers died again and again.
    """
    found = train_missing(rules, ref, pool, folder)
    return {
        title: trained_rule(rules[title], network, task, test)
        for title, network in found.items()
        if isinstance(network, TrainedNetwork)
    }


def trained_rule(
    rule: TrainableRule, network: TrainedNetwork, task: SelectionTask, test: CachedSplit
) -> TrainedRule:
    """What a rule says of the test split with this network."""
    return TrainedRule(
        rule.predict(network, task, test).numpy(),
        network.valid_accuracy,
        len(network.epochs),
        len(network.epochs) * len(task.train.labels_S),
        network.seconds,
    )
