"""The rules that are trained networks: the smart ensemble, and those it is compared with.

A comparison trains each at one or more learning rates and selects the best one on valid:

    found = best_on_valid(rules, shared, executor, search_folder / "rules")
    found["soft_gating"].predict(task, test)  # class probabilities (S, C)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from distcel.data.splits import Split
from distcel.execute.jobs import Executor
from distcel.experiment.types import Experiment, SelectionParams
from distcel.rules.controls import CONSTANT, SHUFFLED
from distcel.rules.from_classifier import FROM_CLASSIFIER
from distcel.rules.gating import GatedEnsemble
from distcel.rules.rule import (
    Rule,
    RunFacts,
    all_learners,
    cost_with_selection_net,
    k_learners,
    no_learners,
)
from distcel.rules.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.search.kept import TrainableRule, train_missing
from distcel.search.refit import SmartRule
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import SampleCounts
from distcel.train.selection import TrainingTask

RulesByLr = Mapping[float, TrainableRule]


def _first_k(facts: RunFacts) -> int:
    return facts.first_k


def _learned_k(facts: RunFacts) -> int | None:
    return facts.learned_k


def _one_network(facts: RunFacts) -> int:
    return facts.multiply_adds.learner


SMART = Rule(
    key="e2e_cel",
    title="e2e-CEL",
    about="the selection net takes k learners for each image; the softmax of the sum of their "
    "outputs is the prediction (Eq. 11)",
    fitted_on="train",
    n_used=k_learners,
    cost=cost_with_selection_net(k_learners),
)
TRAINED = (
    Rule(
        key="e2e_cel_eq_7",
        title="e2e-CEL by Eq. 7",
        about="the smart ensemble at the first trial's k, epsilon and m with the paper's gradient: "
        "Eq. 7 with the 1/epsilon that it leaves out and a baseline that lowers its variance",
        fitted_on="train",
        n_used=_first_k,
        cost=cost_with_selection_net(_first_k),
    ),
    Rule(
        key="single_network",
        title="single network",
        about="the brief single network, but seeing as many samples as the whole ensemble, at the "
        "brief one's learning rate, its schedule stretched",
        fitted_on="train",
        n_used=no_learners,
        cost=_one_network,
    ),
    Rule(
        key="straight_through",
        title="straight-through top-k",
        about="the smart ensemble whose gradient passes the mask as if that were the scores",
        fitted_on="train",
        n_used=k_learners,
        cost=cost_with_selection_net(k_learners),
    ),
    Rule(
        key="soft_gating",
        title="soft gating",
        about="the mean of all outputs, weighted by the selection net's softmax",
        fitted_on="train",
        n_used=all_learners,
        cost=cost_with_selection_net(all_learners),
    ),
    Rule(
        key="brief_single_network",
        title="brief single network",
        about="a network of the selection net's architecture that classifies alone: it sees as "
        "many samples as the selection net. It counts after its best epoch on valid, the smart "
        "ensemble after its last",
        fitted_on="train",
        n_used=no_learners,
        cost=_one_network,
    ),
    Rule(
        key="learned_vote",
        title="learned vote of few",
        about="the sum of the selected learners' log-probabilities, each through a matrix and a "
        "bias of its own, with k at most n/3; a search of its own of as many trials",
        fitted_on="train",
        n_used=_learned_k,
        cost=cost_with_selection_net(_learned_k, matrices=True),
    ),
    FROM_CLASSIFIER,
    CONSTANT,
    SHUFFLED,
)
TITLES = {rule.key: rule.title for rule in TRAINED}


@dataclass(frozen=True)
class Chosen:
    """A trained rule at the learning rate that is best on the valid split.

    Attributes:
        rule: the rule with this learning rate.
        network: its trained network.
        lr: its learning rate.
        seconds: duration of its trainings at all learning rates, without those that diverged.
    """

    rule: TrainableRule
    network: TrainedNetwork
    lr: float
    seconds: float

    def predict(self, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities, shape (S, C)."""
        return self.rule.predict(self.network, task, split)

    def facts(self, task: TrainingTask) -> dict[str, Any]:
        """The facts of its training in `results.json`, which reports show."""
        n_epochs = len(self.network.epochs)
        return {
            "lr": self.lr,
            "valid_accuracy": self.network.valid_accuracy,
            "n_epochs": n_epochs,
            "n_passes": n_epochs * len(task.train.labels_S),
            "seconds": self.seconds,
        }


def brief_single(experiment: Experiment, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The single network that sees as many samples as the selection net, by key and lr."""
    epochs = experiment.selector_recipe.epochs
    return {"brief_single_network": {lr: SingleNetwork(epochs, lr) for lr in lrs}}


def rules_beyond(
    experiment: Experiment,
    params: SelectionParams,
    counts: SampleCounts,
    lrs: Sequence[float],
    single_lr: float,
) -> dict[str, RulesByLr]:
    """Rules that the paper does not have, by key and lr, the longest training first.

    The single network sees as many samples as the whole ensemble did, rounded up to whole epochs.
    All have the selection net's recipe.

    Args:
        experiment: has the recipes.
        params: hyperparameters of e2e-CEL; straight-through top-k has the same k.
        counts: numbers of samples that the ensemble was trained on.
        lrs: learning rates of each rule but the single network.
        single_lr: learning rate of the single network.
    """
    epochs = epochs_of(ensemble_passes(experiment, counts), counts.selection_net)
    own = {lr: replace(params, lr=lr) for lr in lrs}
    return {
        "single_network": {single_lr: SingleNetwork(epochs, single_lr)},
        "straight_through": {lr: GatedEnsemble("straight_through", p) for lr, p in own.items()},
        "soft_gating": {lr: GatedEnsemble("soft_gating", p) for lr, p in own.items()},
    }


def smart_by_eq_7(first: SelectionParams, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The smart ensemble at the first trial's point, by key and lr, if it has Eq. 7's gradient."""
    if first.gradient != "paper":
        return {}
    own = dict.fromkeys([*lrs, first.lr])
    return {"e2e_cel_eq_7": {lr: SmartRule(replace(first, lr=lr)) for lr in own}}


def best_on_valid(
    rules: Mapping[str, RulesByLr],
    shared: Any,
    executor: Executor,
    folder: Path,
    titles: Mapping[str, str] = TITLES,
) -> dict[str, Chosen]:
    """Train the rules that are not kept yet, and choose each rule's learning rate.

    Args:
        rules: the rules by key and learning rate, the longest training first.
        shared: the TrainingTask, as `executor.share` returned it.
        executor: runs the trainings.
        folder: where the networks are kept for a later launch. It is in the search's folder, whose
            name identifies data, recipes and seed.
        titles: the titles of the rules in messages, by key.

    Returns:
        dict: by key, the rule at the learning rate that is best on valid, the first of equals. A
        rule that diverges at every learning rate is left out, with a logged warning.

    Raises:
        RunFailedError: workers were lost repeatedly.
    """
    jobs = {
        titles[key] if i == 0 else f"{titles[key]}, lr {lr:g}": (key, lr, rule)
        for key, by_lr in rules.items()
        for i, (lr, rule) in enumerate(by_lr.items())
    }
    trained = train_missing({n: rule for n, (_, _, rule) in jobs.items()}, shared, executor, folder)
    chosen: dict[str, Chosen] = {}
    for name, (key, lr, rule) in jobs.items():
        network = trained[name]
        if not isinstance(network, TrainedNetwork):
            continue
        new, old = Chosen(rule, network, lr, network.seconds), chosen.get(key)
        if old is not None:
            best = new if network.valid_accuracy > old.network.valid_accuracy else old
            new = replace(best, seconds=old.seconds + network.seconds)
        chosen[key] = new
    return chosen
