"""The trained rules that the smart ensemble is compared with, by the smart ensemble's protocol.

A comparison calls it with what it has at hand for `refit`, and reads class probabilities (S, C):

    found = trained_rules(task, ref, best, counts, test, pool, search_folder / "rules")
    found["soft gating"].probs_SC
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distcel.actor_pool import ActorPool
from distcel.estimate import SampleCounts
from distcel.gating import GatedEnsemble
from distcel.kept_training import TrainableRule, train_missing
from distcel.predictions import CachedSplit, Probabilities
from distcel.selection import SelectionTask, TaskRef
from distcel.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.types import SelectionParams, TrialRecord


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


def rules_to_train(
    task: SelectionTask, params: SelectionParams, counts: SampleCounts
) -> dict[str, TrainableRule]:
    """Every trained rule by its title, the longest training first.

    The single network sees as many samples as the whole ensemble did, rounded up to whole epochs,
    and a second one as many as the selection net did. All have the selection net's recipe and lr.
    """
    passes, n_samples = ensemble_passes(task.experiment, counts), len(task.train.labels_S)
    selector_epochs = task.experiment.selector_recipe.epochs
    return {
        "single network": SingleNetwork(epochs_of(passes, n_samples), params.lr),
        "brief single network": SingleNetwork(selector_epochs, params.lr),
        "straight-through top-k": GatedEnsemble("straight-through", params),
        "soft gating": GatedEnsemble("soft gating", params),
    }


def trained_rules(
    task: SelectionTask,
    ref: TaskRef,
    best: TrialRecord,
    counts: SampleCounts,
    test: CachedSplit,
    pool: ActorPool,
    folder: Path,
) -> dict[str, TrainedRule]:
    """Train what is not trained yet, on workers, and let each rule vote on the test split.

    Args:
        task: what the selection net was trained on.
        ref: the same in Ray's object store.
        best: the trial that the search chose, for its k and lr.
        counts: of the samples that the ensemble was trained on.
        test: the test split.
        pool: the resources of each worker.
        folder: where what is trained is kept for a later launch, in the search's own folder, whose
            name stands for data, recipes and seed.

    Returns:
        dict: by title; a rule that diverges is left out, and said so.

    Raises:
        RunFailedError: workers died again and again.
    """
    rules = rules_to_train(task, best.params, counts)
    found = {}
    for title, network in train_missing(rules, ref, pool, folder).items():
        n_epochs = len(network.epochs)
        found[title] = TrainedRule(
            rules[title].predict(network, task, test).numpy(),
            network.valid_accuracy,
            n_epochs,
            n_epochs * len(task.train.labels_S),
            sum(epoch.seconds for epoch in network.epochs),
        )
    return found
