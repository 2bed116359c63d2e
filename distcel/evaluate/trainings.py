"""The trainings of a comparison: e2e-CEL at each k of Figure 2, its null models, its rivals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distcel.execute.jobs import Executor
from distcel.experiment.space import few_lrs
from distcel.experiment.types import SelectionParams
from distcel.rules.controls import controls
from distcel.rules.from_classifier import from_classifier
from distcel.rules.learned_vote import search_learned_vote, third_of
from distcel.rules.registry import RULES
from distcel.rules.single_network import SingleNetwork
from distcel.rules.trained import (
    SMART,
    TITLES,
    Chosen,
    RulesByLr,
    best_on_valid,
    brief_single,
    rules_beyond,
    smart_by_eq_7,
)
from distcel.search.options import compares_single_networks
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule
from distcel.search.trials import TrialRecord
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import count_samples
from distcel.train.selection import TrainingTask

N_CURVE = 7  # number of logarithmically spaced values of k in Figure 2; others are added


@dataclass(frozen=True)
class ComparedRun:
    """A finished run, with the task and the executor of its comparison.

    Attributes:
        prepared: the run.
        task: the task that rules are trained on.
        shared: the task, as `executor.share` returned it.
        executor: runs the trainings.
        best: the best trial, with the chosen k where its own is `any`.
        searched: the best trial's parameters as they were searched.
        first: the parameters of the first trial.
    """

    prepared: Prepared
    task: TrainingTask
    shared: Any
    executor: Executor
    best: TrialRecord
    searched: SelectionParams
    first: SelectionParams

    @property
    def lrs(self) -> tuple[float, ...]:
        """The learning rates that rules are trained at."""
        return few_lrs(self.prepared.search.space["lr"], self.best.params.lr)

    @property
    def folder(self) -> Path:
        """The folder where trained networks are kept."""
        return self.prepared.search_folder / "rules"


@dataclass(frozen=True)
class TrainedRules:
    """The trained rules of a comparison.

    Attributes:
        over_k: the smart ensemble, by k.
        rivals: the other trained rules, by key.
        vote_trial: the trial of the learned vote, if it was searched.
        diverged: titles of the rules that diverged at every learning rate.
    """

    over_k: Mapping[int, Chosen]
    rivals: Mapping[str, Chosen]
    vote_trial: TrialRecord | None
    diverged: Sequence[str]


def curve_ks(n_learners: int, chosen: int) -> list[int]:
    """The values of k in Figure 2: logarithmically spaced ones, a third of n, and the chosen k."""
    spaced = np.geomspace(1, n_learners, N_CURVE).round().astype(int)
    return sorted({int(k) for k in spaced} | {third_of(n_learners), chosen})


def train_rules(
    run: ComparedRun, network: TrainedNetwork, valid_over_k: Sequence[float]
) -> TrainedRules:
    """Train the rules of every comparison.

    Args:
        run: the run.
        network: the refit of its best trial.
        valid_over_k: that network's accuracy on valid for k = 1..n, if it was trained for every k:
            Figure 2 then needs no other.
    """
    params, k = run.best.params, run.best.params.chosen_k
    ks = [other for other in curve_ks(len(run.prepared.specs), k) if other != k]
    by_key = {other: f"{SMART.key}, k = {other}" for other in ks}
    titles = TITLES | {key: f"{SMART.title}, k = {other}" for other, key in by_key.items()}
    wanted: dict[str, RulesByLr] = smart_by_eq_7(run.first, run.lrs)
    wanted |= controls(run.searched, run.lrs)
    experiment, options = run.prepared.experiment, run.prepared.options
    if compares_single_networks(experiment, options.selector_split):
        wanted |= brief_single(experiment, run.lrs)
    if not valid_over_k:
        wanted |= {key: {params.lr: SmartRule(replace(params, k=k))} for k, key in by_key.items()}
    found = best_on_valid(wanted, run.shared, run.executor, run.folder, titles)
    over_k = {other: found[key] for other, key in by_key.items() if key in found}
    over_k[k] = Chosen(SmartRule(params), network, params.lr, network.seconds)
    for other in ks if valid_over_k else ():
        same = replace(network, valid_accuracy=valid_over_k[other - 1])
        over_k[other] = Chosen(SmartRule(replace(params, k=other)), same, params.lr, 0.0)
    rivals = {key: chosen for key, chosen in found.items() if key in RULES}
    diverged = [titles[key] for key in wanted if key not in found]
    return TrainedRules(dict(sorted(over_k.items())), rivals, None, diverged)


def train_beyond(run: ComparedRun, trained: TrainedRules) -> TrainedRules:
    """Train the further rules of `--beyond` as well."""
    experiment, best = run.prepared.experiment, run.best.params
    vote = search_learned_vote(run.prepared, run.shared, run.executor)
    brief = trained.rivals.get("brief_single_network")
    single_lr = brief.lr if brief else best.lr
    options, labels_S = run.prepared.options, run.prepared.splits["train"].labels_S
    counts = count_samples(
        labels_S, run.prepared.specs, experiment, options.selector_split, options.seed
    )
    further = rules_beyond(experiment, best, counts, run.lrs, single_lr)
    classifier = SingleNetwork(experiment.selector_recipe.epochs, single_lr)
    further |= from_classifier(run.searched, run.lrs, classifier)
    found = best_on_valid(further, run.shared, run.executor, run.folder)
    if vote is not None:
        found["learned_vote"] = vote[0]
    wanted = [*further, "learned_vote"]
    rivals = {key: found[key] for key in wanted if key in found}
    return replace(
        trained,
        rivals={**trained.rivals, **rivals},
        vote_trial=vote[1] if vote else None,
        diverged=[*trained.diverged, *(TITLES[key] for key in wanted if key not in found)],
    )
