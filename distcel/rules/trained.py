"""The rules that are trained networks: the smart ensemble and its rivals.

A comparison gives each at one learning rate or at several and takes the best on valid:

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
from distcel.rules.gating import GatedEnsemble
from distcel.rules.rule import Rule, RunFacts, everybody, nobody, selected, selection_net_and
from distcel.rules.single_network import SingleNetwork, ensemble_passes, epochs_of
from distcel.search.kept import TrainableRule, train_missing
from distcel.search.refit import SmartRule
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import SampleCounts
from distcel.train.task import TrainingTask

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
    asked=selected,
    cost=selection_net_and(selected),
)
TRAINED = (
    Rule(
        key="e2e_cel_eq_7",
        title="e2e-CEL by Eq. 7",
        about="the smart ensemble at the first trial's k, epsilon and m with the paper's gradient: "
        "Eq. 7 with the 1/epsilon that it leaves out and a baseline that lowers its variance",
        fitted_on="train",
        asked=_first_k,
        cost=selection_net_and(_first_k),
    ),
    Rule(
        key="single_network",
        title="single network",
        about="a network of the selection net's architecture that classifies alone: it sees as "
        "many samples as the whole ensemble, at the brief one's learning rate, its schedule "
        "stretched. It counts after its best epoch on valid, the smart ensemble after its last",
        fitted_on="train",
        asked=nobody,
        cost=_one_network,
    ),
    Rule(
        key="straight_through",
        title="straight-through top-k",
        about="the smart ensemble whose gradient passes the mask as if that were the scores",
        fitted_on="train",
        asked=selected,
        cost=selection_net_and(selected),
    ),
    Rule(
        key="soft_gating",
        title="soft gating",
        about="the mean of all outputs, weighted by the selection net's softmax",
        fitted_on="train",
        asked=everybody,
        cost=selection_net_and(everybody),
    ),
    Rule(
        key="brief_single_network",
        title="brief single network",
        about="the same network, which sees as many samples as the selection net",
        fitted_on="train",
        asked=nobody,
        cost=_one_network,
    ),
    Rule(
        key="learned_vote",
        title="learned vote of few",
        about="the sum of the selected learners' log-probabilities, each through a matrix and a "
        "bias of its own, with k at most n/3; a search of its own of as many trials",
        fitted_on="train",
        asked=_learned_k,
        cost=selection_net_and(_learned_k, matrices=True),
    ),
)
TITLES = {rule.key: rule.title for rule in TRAINED}


@dataclass(frozen=True)
class Chosen:
    """A trained rule at the learning rate that is best on the valid split.

    Attributes:
        rule: how it is trained and how it predicts.
        network: what was trained.
        lr: its learning rate.
        seconds: that its trainings at all learning rates took, but for those that diverged.
    """

    rule: TrainableRule
    network: TrainedNetwork
    lr: float
    seconds: float

    def predict(self, task: TrainingTask, split: Split) -> Tensor:
        """Class probabilities, shape (S, C)."""
        return self.rule.predict(self.network, task, split)

    def facts(self, task: TrainingTask) -> dict[str, Any]:
        """What a report shows of its training, for `results.json`."""
        n_epochs = len(self.network.epochs)
        return {
            "lr": self.lr,
            "valid_accuracy": self.network.valid_accuracy,
            "n_epochs": n_epochs,
            "n_passes": n_epochs * len(task.train.labels_S),
            "seconds": self.seconds,
        }


def brief_single(experiment: Experiment, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The single network that sees as many samples as the selection net, by its key."""
    epochs = experiment.selector_recipe.epochs
    return {"brief_single_network": {lr: SingleNetwork(epochs, lr) for lr in lrs}}


def rules_beyond(
    experiment: Experiment,
    params: SelectionParams,
    counts: SampleCounts,
    lrs: Sequence[float],
    single_lr: float,
) -> dict[str, RulesByLr]:
    """What the paper does not have, by its key, the longest training first.

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
        "single_network": {single_lr: SingleNetwork(epochs, single_lr)},
        "straight_through": {lr: GatedEnsemble("straight_through", p) for lr, p in own.items()},
        "soft_gating": {lr: GatedEnsemble("soft_gating", p) for lr, p in own.items()},
    }


def smart_by_eq_7(first: SelectionParams, lrs: Sequence[float]) -> dict[str, RulesByLr]:
    """The smart ensemble at the first trial's point and lrs, if that has the paper's gradient."""
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
    """Train what is not trained yet, on workers, and choose each rule's learning rate.

    Args:
        rules: by key and learning rate, the longest training first.
        shared: what the selection net was trained on.
        executor: trains on workers.
        folder: where what is trained is kept for a later launch, in the search's own folder, whose
            name stands for data, recipes and seed.
        titles: by key, what messages call the rules.

    Returns:
        dict: by key, the first of equals; a rule that diverges at every learning rate is left out
        with a message.

    Raises:
        RunFailedError: workers were lost again and again.
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
