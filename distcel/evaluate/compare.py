"""The comparison of a finished run with every other rule: the paper's evaluation, and beyond it.

Every rule predicts the test split from the same cached predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from distcel.data.splits import Split
from distcel.evaluate.calibration import calibration
from distcel.evaluate.gradients import study_gradients
from distcel.evaluate.launch import rule_options, run_facts
from distcel.evaluate.metrics import measure, slices
from distcel.evaluate.trainings import ComparedRun, TrainedRules, train_beyond, train_rules
from distcel.execute.jobs import Executor
from distcel.rules.consensus import random_selections
from distcel.rules.controls import CONSTANT, SHUFFLED, ControlRule
from distcel.rules.from_classifier import FromClassifier
from distcel.rules.registry import (
    MEAN_LEARNER,
    ORACLE,
    RULES,
    consensus_rules,
    predict_rules,
)
from distcel.rules.rule import ProbsDSC, RunFacts, correct, predict_draws
from distcel.rules.trained import SMART
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, choose_k, refit_best
from distcel.search.trials import TrialStore, first_params
from distcel.train.selection import TrainingTask

# The rules of Figure 2 that do not depend on k.
_CONSTANT = ("unweighted_average", "plurality_vote", "super_learner")


def compare_run(
    prepared: Prepared, executor: Executor, beyond: bool, gradients: bool
) -> dict[str, Any]:
    """Compare the smart ensemble of a finished run with every other rule, on the test split.

    Args:
        prepared: the run.
        executor: runs the trainings.
        beyond: also train further rules that the paper does not have.
        gradients: also train the best trial with each gradient.

    Returns:
        dict: for `results.json`. `rules`: by key, what `Rule.describe` and `metrics.measure` give,
        with `chosen` (`what` and `value`) or `training` (`Chosen.facts`) or `trial` where a rule
        has them; `class_sizes`, `slice_sizes` and `against` as `metrics.measure` gives them;
        `over_k`: for each k of Figure 2 `k`, `multiply_adds`, `valid_accuracy`, `accuracy` by rule
        and the smart ensemble's `calibration`; `test_readings`: how often the test split has been
        read, by the ledger; `gradients`: as `study_gradients` gives them, or null; `diverged`:
        titles; `seconds`: durations of the trainings on their workers, by purpose.

    Raises:
        RunFailedError: no trial is complete, or workers were lost repeatedly.
    """
    store = TrialStore(prepared.search_folder / "trials")
    first = first_params(store.snapshot(), prepared.search.first)
    task = prepared.selection_task()
    shared = executor.share(task)
    network, best = refit_best(shared, store, executor, prepared.search_folder / "refit")
    searched = best.params
    params, valid_over_k = choose_k(task, searched, network)
    best = replace(best, params=params)
    run = ComparedRun(prepared, task, shared, executor, best, searched, first)
    trained = train_rules(run, network, valid_over_k)
    if beyond:
        trained = train_beyond(run, trained)
    # Read once what is compared is trained and chosen.
    test, n_readings = prepared.read_test("comparison")
    folder = prepared.search_folder / "gradients"
    study = study_gradients(task, run.shared, best, test, executor, folder) if gradients else None
    return {
        **_measured(run, test, trained),
        "test_readings": n_readings,
        "gradients": study,
        "diverged": [*trained.diverged],
        "seconds": _seconds(trained, study, params.chosen_k),
    }


def _seconds(
    trained: TrainedRules, study: Sequence[Mapping[str, Any]] | None, refitted: int
) -> dict[str, float]:
    """Durations of the trainings on their workers; the refit's own k is counted with the refit."""
    rivals = {key: chosen.seconds for key, chosen in trained.rivals.items()}
    return {
        "controls": sum(rivals.pop(key, 0.0) for key in (CONSTANT.key, SHUFFLED.key)),
        "figure_2": sum(one.seconds for k, one in trained.over_k.items() if k != refitted),
        "learned_vote": rivals.pop("learned_vote", 0.0),
        "other_trained_rules": sum(rivals.values()),
        "gradients": sum(epoch["seconds"] for run in study or () for epoch in run["epochs"]),
    }


def _measured(run: ComparedRun, test: Split, trained: TrainedRules) -> dict[str, Any]:
    prepared, task, params = run.prepared, run.task, run.best.params
    smart = {k: one.predict(task, test).numpy()[None] for k, one in trained.over_k.items()}
    network = trained.over_k[params.chosen_k].network
    options = rule_options(prepared, task, SmartRule(params), network, params.chosen_k)
    rules = consensus_rules(prepared.options.selector_split)
    consensus, chosen = predict_rules(rules, task.train, test, options)
    probs = {SMART.key: smart[params.chosen_k], **consensus}
    probs |= {key: one.predict(task, test).numpy()[None] for key, one in trained.rivals.items()}
    vote_k = trained.vote_trial.params.chosen_k if trained.vote_trial else None
    facts = run_facts(prepared, task, params.chosen_k, run.first.k, chosen, vote_k)
    dataset, ids = prepared.experiment.dataset, prepared.splits["test"].sample_ids.to_pylist()
    leaders = [key for key in (SMART.key, "learned_vote") if key in probs]
    measured = measure(probs, test, prepared.splits.class_names, slices(dataset, ids), leaders)
    rows = _described(measured["rules"], facts, task, trained)
    over_k = accuracy_over_k(smart, consensus, task, test)
    for point in over_k:
        k = point["k"]
        point["multiply_adds"] = facts.multiply_adds.of_sub_ensemble(k)
        point["valid_accuracy"] = trained.over_k[k].network.valid_accuracy
        valid_SC = trained.over_k[k].predict(task, task.valid).numpy()
        labels = task.valid.labels_S, test.labels_S
        point["calibration"] = calibration(valid_SC, labels[0], smart[k][0], labels[1])
        if k == params.chosen_k:
            error = point["calibration"]["after"]["calibration_error"]
            rows[SMART.key]["calibration_error"] = error
    return {**measured, "rules": rows, "over_k": over_k}


def _described(
    measured: Mapping[str, dict[str, Any]],
    facts: RunFacts,
    task: TrainingTask,
    trained: TrainedRules,
) -> dict[str, dict[str, Any]]:
    """What was measured of each rule, with what describes the rule and its training."""
    described = {**RULES, ORACLE.key: ORACLE, MEAN_LEARNER.key: MEAN_LEARNER}
    rows = {key: described[key].describe(facts) | found for key, found in measured.items()}
    for key, value in facts.chosen.items():
        rows[key]["chosen"] = {"what": RULES[key].chosen, "value": value}
    for key, one in trained.rivals.items():
        rows[key]["training"] = one.facts(task)
        if isinstance(one.rule, ControlRule | FromClassifier):
            rows[key]["training"]["k"] = one.rule.chosen_k(one.network, task)
    if trained.vote_trial:
        rows["learned_vote"]["trial"] = asdict(trained.vote_trial)
    return rows


def accuracy_over_k(
    smart_by_k: Mapping[int, ProbsDSC],
    consensus: Mapping[str, ProbsDSC],
    task: TrainingTask,
    test: Split,
) -> list[dict[str, Any]]:
    """Figure 2: the accuracies of the smart ensemble at each k and of other rules.

    Args:
        smart_by_k: the smart ensemble's class probabilities at each k.
        consensus: class probabilities of other rules, by key; some do not depend on k.
        task: has the train split and the seed of random selection.
        test: the samples.
    """

    def accuracy(draws: ProbsDSC) -> float:
        return float(correct(draws, test.labels_S).mean())

    constant = {key: accuracy(consensus[key]) for key in _CONSTANT}
    points: list[dict[str, Any]] = []
    for k, smart in smart_by_k.items():
        random = predict_draws(random_selections(k, task.seed), task.train, test)
        found = {SMART.key: accuracy(smart), "random_selection": accuracy(random), **constant}
        points.append({"k": k, "accuracy": found})
    return points
