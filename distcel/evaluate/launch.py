"""The measurements of a launch on the test split: the paper's Tables 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distcel.core.cost import multiply_adds
from distcel.data.splits import Split
from distcel.evaluate.calibration import calibration
from distcel.evaluate.details import measure_details, rivals_on_valid
from distcel.evaluate.pruned import measure_pruned
from distcel.evaluate.selection import SHUFFLED, measure_selection, selected, shuffled_probs
from distcel.experiment.learner_sets import LearnerSpec
from distcel.experiment.types import AnyK
from distcel.rules.consensus import oracle_accuracy
from distcel.rules.registry import MEAN_LEARNER, ORACLE, PAPER_RULES, RULES, predict_rules
from distcel.rules.rule import ProbsDSC, RuleOptions, RunFacts, correct
from distcel.search.prepare import Prepared
from distcel.search.refit import ChosenEnsemble, SmartRule
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import training_priors
from distcel.train.selection import TrainingTask


def measure_test(
    prepared: Prepared, task: TrainingTask, best: ChosenEnsemble
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the test split and measure the smart ensemble and the paper's other rules.

    Args:
        prepared: the run.
        task: the task that the selection net was trained on.
        best: the smart ensemble.

    Returns:
        dict: for `results.json`. `accuracy`, `specialised`, `complementary` and `overall`, as
        docs/run-directory.md lists them; `private_test`: the same and `n_samples` on FER2013's
        PrivateTest alone, where it can be identified, else null, and `private_test_accuracy`: its
        `accuracy`;
        `calibration`: the smart ensemble's, as `calibration` gives it; `pruned`: as
        `measure_pruned` gives it where `--prune` is given, else null; `test_readings`: how often
        the split has been read, by the ledger; `rules`: by key, as `Rule.describe` gives it. With
        given answers also what `measure_selection` returns.
        dict: for `details.json`, as `measure_details` gives it, and `rivals_on_valid`.
    """
    test, n_readings = prepared.read_test("launch")
    smart_rule, network = best.rule, best.network
    smart, *rules = (RULES[key] for key in PAPER_RULES)
    unseen = best.on_valid or network
    valid_SC = smart_rule.predict(unseen, task, task.valid).numpy()
    test_SC = smart_rule.predict(network, task, test).numpy()
    probs: dict[str, ProbsDSC] = {smart.key: test_SC[None]}
    asked_SN = selected(smart_rule, network, task, test)
    selection, shown = None, [smart, *rules, ORACLE]
    if prepared.answers is not None:
        selection = measure_selection(prepared.answers, task, best, test, asked_SN)
        ensemble = smart_rule.ensemble(network, task)
        probs[SHUFFLED.key] = shuffled_probs(ensemble, test, asked_SN, task.seed)
        shown.insert(1, SHUFFLED)
    k = selection.k if selection else smart_rule.params.chosen_k
    options = rule_options(prepared, task, smart_rule, network, k)
    consensus, chosen = predict_rules(rules, task.train, test, options)
    probs |= consensus
    ids = prepared.splits["test"].sample_ids.to_pylist()
    private_S = np.array(["PrivateTest_" in sample_id for sample_id in ids])
    private = None
    if private_S.any() and not private_S.all():
        inside = {key: draws[:, private_S] for key, draws in probs.items()}
        private = accuracies(inside, test.where(private_S), prepared.specs)
    facts = run_facts(prepared, task, k, prepared.search.first.k, chosen)
    whole = accuracies(probs, test, prepared.specs)
    calibrated = calibration(valid_SC, task.valid.labels_S, test_SC, test.labels_S)
    # Of given predictors the page has no samples: they may be anything.
    scores_SN = None if prepared.answers else smart_rule.scores(network, task, test)
    dataset, temperature = prepared.experiment.dataset, calibrated["temperature"]
    details = measure_details(dataset, test, test_SC, asked_SN, scores_SN, k, temperature)
    pruned = measure_pruned(task, best, test, asked_SN) if prepared.options.prune else None
    measured = {
        **(selection.facts if selection else {}),
        **{name: value for name, value in whole.items() if name != "n_samples"},
        "calibration": calibrated,
        "pruned": pruned,
        "test_readings": n_readings,
        "private_test": private,
        "private_test_accuracy": private["accuracy"] if private else None,
        "rules": {rule.key: rule.describe(facts) for rule in shown},
    }
    return measured, details | {"rivals_on_valid": rivals_on_valid(options)}


def rule_options(
    prepared: Prepared,
    task: TrainingTask,
    smart_rule: SmartRule,
    network: TrainedNetwork,
    k: int,
) -> RuleOptions:
    """The options of rules that train no network, beside this smart ensemble of k learners."""
    specs, experiment = prepared.specs, prepared.experiment
    labels_S = prepared.splits["train"].labels_S  # with `holdout`, task.train is another one
    if prepared.answers is None:
        priors_NC = training_priors(specs, labels_S, experiment, task.seed)
    else:  # what the predictors were trained on is not known
        n_classes = len(prepared.splits.class_names)
        priors_NC = np.full((len(specs), n_classes), 1 / n_classes)
    return RuleOptions(
        k=k,
        seed=task.seed,
        valid=task.valid,
        priors_NC=priors_NC,
        embed=lambda split: smart_rule.embed(network, task, split),
    )


def run_facts(
    prepared: Prepared,
    task: TrainingTask,
    k: int,
    first_k: int | AnyK,
    chosen: Mapping[str, float],
    learned_k: int | None = None,
) -> RunFacts:
    """The `RunFacts` of this run, which determine the cost of its rules; arguments as there."""
    n_learners, n_classes = len(prepared.specs), len(prepared.splits.class_names)
    cost = multiply_adds(prepared.plan, n_learners, n_classes)
    if prepared.answers is not None:  # it cannot be known what they compute
        cost = replace(cost, learner=0)
    return RunFacts(
        n_learners=n_learners,
        n_classes=n_classes,
        n_train=len(task.train.labels_S),
        k=k,
        first_k=k if first_k == "any" else first_k,
        multiply_adds=cost,
        learned_k=learned_k,
        chosen=chosen,
    )


def accuracies(
    probs: Mapping[str, ProbsDSC], test: Split, specs: tuple[LearnerSpec, ...]
) -> dict[str, Any]:
    """The accuracies of the rules, by key, and of the base learners on `test`, as fractions."""
    specialised, complementary, overall = learner_accuracies(test, specs)
    accuracy = {key: float(correct(draws, test.labels_S).mean()) for key, draws in probs.items()}
    accuracy |= {ORACLE.key: oracle_accuracy(test), MEAN_LEARNER.key: overall}
    return {
        "n_samples": len(test.labels_S),
        "accuracy": accuracy,
        "specialised": specialised,
        "complementary": complementary,
        "overall": overall,
    }


def learner_accuracies(
    split: Split, specs: tuple[LearnerSpec, ...]
) -> tuple[float | None, float | None, float]:
    """Table 1: mean accuracy of the learners on their own classes, on the others, on all.

    A learner that specialises in every class has no others and is left out of their mean. The first
    two are None if no learner specialises.
    """
    correct_SN = split.learners_correct
    if not any(spec.classes for spec in specs):
        return None, None, float(correct_SN.mean())
    own_SN = np.stack([np.isin(split.labels_S, spec.classes) for spec in specs], axis=1)
    return (
        _mean_of_columns(correct_SN, own_SN),
        _mean_of_columns(correct_SN, ~own_SN),
        float(correct_SN.mean()),
    )


def _mean_of_columns(correct_SN: NDArray[np.bool_], where_SN: NDArray[np.bool_]) -> float:
    counted_N = where_SN.sum(0)
    hits_N = (correct_SN & where_SN).sum(0)
    return float((hits_N[counted_N > 0] / counted_N[counted_N > 0]).mean())
