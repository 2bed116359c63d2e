"""The comparison of a finished run with every other rule: the paper's evaluation, and beyond it.

Every rule predicts the test split from the same cached predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distcel.core.cost import MultiplyAdds
from distcel.data.splits import Split
from distcel.evaluate.gradients import study_gradients
from distcel.evaluate.launch import run_facts
from distcel.evaluate.metrics import measure, slices
from distcel.execute.jobs import Executor
from distcel.experiment.space import few_lrs
from distcel.experiment.types import SelectionParams
from distcel.rules.consensus import random_selections
from distcel.rules.learned_vote import search_learned_vote, third_of
from distcel.rules.registry import (
    MEAN_LEARNER,
    ORACLE,
    RULES,
    consensus_rules,
    predict_rules,
)
from distcel.rules.rule import ProbsDSC, correct, predict_draws
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
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, choose_k, refit_best
from distcel.search.trials import TrialRecord, TrialStore, first_params
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.estimate import count_samples
from distcel.train.selection import TrainingTask

N_CURVE = 7  # number of logarithmically spaced values of k in Figure 2; others are added
# The rules of Figure 2 that do not depend on k.
_CONSTANT = ("unweighted_average", "plurality_vote", "super_learner")


@dataclass(frozen=True)
class _Run:
    """A finished run, with the task and the executor of its comparison."""

    prepared: Prepared
    task: TrainingTask
    shared: Any
    executor: Executor
    best: TrialRecord
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
class _Trained:
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


def compare_run(
    prepared: Prepared, executor: Executor, beyond: bool, gradients: bool
) -> dict[str, Any]:
    """Compare the smart ensemble of a finished run with every other rule, on the test split.

    Args:
        prepared: the run.
        executor: runs the trainings.
        beyond: also train the rules that the paper does not have.
        gradients: also train the best trial with each gradient.

    Returns:
        dict: for `results.json`. `rules`: by key, what `Rule.describe` and `metrics.measure` give,
        with `chosen` (`what` and `value`) or `training` (`Chosen.facts`) or `trial` where a rule
        has them; `class_sizes`, `slice_sizes` and `against` as `metrics.measure` gives them;
        `over_k`: for each k of Figure 2 `k`, `multiply_adds`, `valid_accuracy` and `accuracy` by
        rule; `gradients`: as `study_gradients` gives them, or null; `diverged`: titles; `seconds`:
        durations of the trainings on their workers, by purpose.

    Raises:
        RunFailedError: no trial is complete, or workers were lost repeatedly.
    """
    store = TrialStore(prepared.search_folder / "trials")
    first = first_params(store.snapshot(), prepared.search.first)
    task = prepared.selection_task()
    shared = executor.share(task)
    network, best = refit_best(shared, store, executor, prepared.search_folder / "refit")
    params, valid_over_k = choose_k(task, best.params, network)
    best = replace(best, params=params)
    run = _Run(prepared, task, shared, executor, best, first)
    trained = _train(run, network, valid_over_k)
    if beyond:
        trained = _train_beyond(run, trained)
    test = prepared.cached("test")  # read once what is compared is trained and chosen
    folder = prepared.search_folder / "gradients"
    study = study_gradients(task, run.shared, best, test, executor, folder) if gradients else None
    return {
        **_measured(run, test, trained),
        "gradients": study,
        "diverged": [*trained.diverged],
        "seconds": _seconds(trained, study, params.chosen_k),
    }


def curve_ks(n_learners: int, chosen: int) -> list[int]:
    """The values of k in Figure 2: logarithmically spaced ones, a third of n, and the chosen k."""
    spaced = np.geomspace(1, n_learners, N_CURVE).round().astype(int)
    return sorted({int(k) for k in spaced} | {third_of(n_learners), chosen})


def _train(run: _Run, network: TrainedNetwork, valid_over_k: Sequence[float]) -> _Trained:
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
    return _Trained(dict(sorted(over_k.items())), rivals, None, diverged)


def _train_beyond(run: _Run, trained: _Trained) -> _Trained:
    """Train the rules that the paper does not have as well."""
    experiment, best = run.prepared.experiment, run.best.params
    vote = search_learned_vote(run.prepared, run.shared, run.executor)
    brief = brief_single(experiment, run.lrs)
    found = best_on_valid(brief, run.shared, run.executor, run.folder)
    single_lr = next((chosen.lr for chosen in found.values()), best.lr)
    options, labels_S = run.prepared.options, run.prepared.splits["train"].labels_S
    counts = count_samples(
        labels_S, run.prepared.specs, experiment, options.selector_split, options.seed
    )
    further = rules_beyond(experiment, best, counts, run.lrs, single_lr)
    found |= best_on_valid(further, run.shared, run.executor, run.folder)
    if vote is not None:
        found["learned_vote"] = vote[0]
    wanted = [*further, *brief, "learned_vote"]
    rivals = {key: found[key] for key in wanted if key in found}
    return replace(
        trained,
        rivals={**trained.rivals, **rivals},
        vote_trial=vote[1] if vote else None,
        diverged=[*trained.diverged, *(TITLES[key] for key in wanted if key not in found)],
    )


def _seconds(
    trained: _Trained, study: Sequence[Mapping[str, Any]] | None, refitted: int
) -> dict[str, float]:
    """Durations of the trainings on their workers; the refit's own k is counted with the refit."""
    rivals = {key: chosen.seconds for key, chosen in trained.rivals.items()}
    return {
        "figure_2": sum(one.seconds for k, one in trained.over_k.items() if k != refitted),
        "learned_vote": rivals.pop("learned_vote", 0.0),
        "other_trained_rules": sum(rivals.values()),
        "gradients": sum(epoch["seconds"] for run in study or () for epoch in run["epochs"]),
    }


def _measured(run: _Run, test: Split, trained: _Trained) -> dict[str, Any]:
    prepared, task, k = run.prepared, run.task, run.best.params.chosen_k
    smart = {k: one.predict(task, test).numpy()[None] for k, one in trained.over_k.items()}
    rules = consensus_rules(prepared.options.selector_split)
    consensus, chosen = predict_rules(rules, task.train, task.valid, test, k, task.seed)
    probs = {SMART.key: smart[k], **consensus}
    probs |= {key: one.predict(task, test).numpy()[None] for key, one in trained.rivals.items()}
    vote_k = trained.vote_trial.params.chosen_k if trained.vote_trial else None
    facts = run_facts(prepared, task, k, run.first.k, chosen, vote_k)
    dataset, ids = prepared.experiment.dataset, prepared.splits["test"].sample_ids.to_pylist()
    leaders = [key for key in (SMART.key, "learned_vote") if key in probs]
    names = prepared.splits.class_names
    measured = measure(probs, test, names, slices(dataset, ids), leaders)
    described = {**RULES, ORACLE.key: ORACLE, MEAN_LEARNER.key: MEAN_LEARNER}
    rows = {key: described[key].describe(facts) | found for key, found in measured["rules"].items()}
    for key, value in chosen.items():
        rows[key]["chosen"] = {"what": RULES[key].chosen, "value": value}
    for key, one in trained.rivals.items():
        rows[key]["training"] = one.facts(task)
    if trained.vote_trial:
        rows["learned_vote"]["trial"] = asdict(trained.vote_trial)
    valid = {k: one.network.valid_accuracy for k, one in trained.over_k.items()}
    over_k = accuracy_over_k(smart, consensus, valid, task, test, facts.multiply_adds)
    return {**measured, "rules": rows, "over_k": over_k}


def accuracy_over_k(
    smart_by_k: Mapping[int, ProbsDSC],
    consensus: Mapping[str, ProbsDSC],
    valid_accuracy: Mapping[int, float],
    task: TrainingTask,
    test: Split,
    multiply_adds: MultiplyAdds,
) -> list[dict[str, Any]]:
    """Figure 2: the cost of the smart ensemble at each k, and the accuracies of the rules.

    Args:
        smart_by_k: the smart ensemble's class probabilities at each k.
        consensus: class probabilities of other rules, by key; some do not depend on k.
        valid_accuracy: accuracy of the smart ensemble on valid, by k.
        task: has the train split and the seed of random selection.
        test: the samples.
        multiply_adds: multiply-adds of the networks.
    """

    def accuracy(draws: ProbsDSC) -> float:
        return float(correct(draws, test.labels_S).mean())

    constant = {key: accuracy(consensus[key]) for key in _CONSTANT}
    return [
        {
            "k": k,
            "multiply_adds": multiply_adds.of_sub_ensemble(k),
            "valid_accuracy": valid_accuracy[k],
            "accuracy": {
                SMART.key: accuracy(smart),
                "random_selection": accuracy(
                    predict_draws(random_selections(k, task.seed), task.train, test)
                ),
                **constant,
            },
        }
        for k, smart in smart_by_k.items()
    ]
