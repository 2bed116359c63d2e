"""The rules that a comparison trains: the smart ensemble at other k, and its rivals.

A comparison says which, each at one learning rate or at several, and reads class probabilities
(S, C):

    found = best_on_valid(rules, shared, executor, search_folder / "rules")
    trained_rule(found["soft gating"], task, test).probs_SC
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distcel.evaluate.measures import SMART
from distcel.execute.jobs import Executor
from distcel.experiment.types import Experiment, SelectionParams
from distcel.rules.gating import GatedEnsemble
from distcel.rules.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.search.kept import TrainableRule, train_missing
from distcel.search.refit import SmartRule
from distcel.train.cache import CachedSplit, Probabilities
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import SampleCounts
from distcel.train.selection import SelectionTask

SINGLE, BRIEF_SINGLE = "single network", "brief single network"
SOFT_GATING, STRAIGHT_THROUGH = "soft gating", "straight-through top-k"
EQ_7 = f"{SMART} by Eq. 7"
RulesByLr = Mapping[float, TrainableRule]


@dataclass(frozen=True)
class Chosen:
    """A rule at the learning rate that is best on the valid split.

    Attributes:
        rule: it.
        network: what was trained.
        lr: that it has.
        seconds: that its trainings at all learning rates took, but for those that diverged.
    """

    rule: TrainableRule
    network: TrainedNetwork
    lr: float
    seconds: float


@dataclass(frozen=True)
class TrainedRule:
    """What a trained rule says of the test split.

    Attributes:
        probs_SC: its class probabilities.
        valid_accuracy: of the same weights on the valid split, as a fraction.
        lr: that it was trained with.
        n_epochs: that it was trained for.
        n_passes: training samples seen, each as often as it was seen; the base learners' own are
            not in it.
        seconds: as in Chosen.
    """

    probs_SC: Probabilities
    valid_accuracy: float
    lr: float
    n_epochs: int
    n_passes: int
    seconds: float


def brief_single(experiment: Experiment, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The single network that sees as many samples as the selection net, by its title."""
    epochs = experiment.selector_recipe.epochs
    return {BRIEF_SINGLE: {lr: SingleNetwork(epochs, lr) for lr in lrs}}


def rules_beyond(
    experiment: Experiment,
    params: SelectionParams,
    counts: SampleCounts,
    lrs: Sequence[float],
    single_lr: float,
) -> dict[str, RulesByLr]:
    """What the paper does not have, by its title, the longest training first.

    The single network sees as many samples as the whole ensemble did, rounded up to whole epochs.
    All have the selection net's recipe.

    Args:
        experiment: whose recipes they and the ensemble have.
        params: e2e-CEL's; k is straight-through's as well.
        counts: what the ensemble was trained on.
        lrs: that each of them but the single network is trained at.
        single_lr: the single network's.
    """
    epochs = epochs_of(ensemble_passes(experiment, counts), counts.selection_net)
    own = {lr: replace(params, lr=lr) for lr in lrs}
    return {
        SINGLE: {single_lr: SingleNetwork(epochs, single_lr)},
        STRAIGHT_THROUGH: {lr: GatedEnsemble("straight-through", p) for lr, p in own.items()},
        SOFT_GATING: {lr: GatedEnsemble("soft gating", p) for lr, p in own.items()},
    }


def smart_by_eq_7(first: SelectionParams, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The smart ensemble at the first trial's point and lrs, if that has the paper's gradient."""
    if first.gradient != "paper":
        return {}
    own = dict.fromkeys([*lrs, first.lr])
    return {EQ_7: {lr: SmartRule(replace(first, lr=lr)) for lr in own}}


def best_on_valid(
    rules: Mapping[str, RulesByLr], shared: Any, executor: Executor, folder: Path
) -> dict[str, Chosen]:
    """Train what is not trained yet, on workers, and choose each rule's learning rate.

    Args:
        rules: by title and learning rate, the longest training first.
        shared: what the selection net was trained on, in Ray's object store.
        executor: the resources of each worker.
        folder: where what is trained is kept for a later launch, in the search's own folder, whose
            name stands for data, recipes and seed.

    Returns:
        dict: by title, the first of equals; a rule that diverges at every learning rate is left
        out, and said so.

    Raises:
        RunFailedError: workers died again and again.
    """
    titled = {
        title if i == 0 else f"{title}, lr {lr:g}": (title, lr, rule)
        for title, by_lr in rules.items()
        for i, (lr, rule) in enumerate(by_lr.items())
    }
    found = train_missing({t: rule for t, (_, _, rule) in titled.items()}, shared, executor, folder)
    chosen: dict[str, Chosen] = {}
    for name, (title, lr, rule) in titled.items():
        network = found[name]
        if not isinstance(network, TrainedNetwork):
            continue
        new, old = Chosen(rule, network, lr, network.seconds), chosen.get(title)
        if old is not None:
            best = new if network.valid_accuracy > old.network.valid_accuracy else old
            new = replace(best, seconds=old.seconds + network.seconds)
        chosen[title] = new
    return chosen


def trained_rule(chosen: Chosen, task: SelectionTask, test: CachedSplit) -> TrainedRule:
    """What a rule says of the test split."""
    network = chosen.network
    return TrainedRule(
        chosen.rule.predict(network, task, test).numpy(),
        network.valid_accuracy,
        chosen.lr,
        len(network.epochs),
        len(network.epochs) * len(task.train.labels_S),
        chosen.seconds,
    )
