from dataclasses import replace
from pathlib import Path

import numpy as np

from distcel.data.splits import Split
from distcel.evaluate.launch import accuracies, learner_accuracies, rule_options
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.rules.consensus import RANDOM_DRAWS
from distcel.rules.registry import PAPER_RULES, RULES, predict_rules
from distcel.rules.rule import ProbsDSC
from distcel.search.options import Options
from distcel.search.prepare import prepare
from distcel.search.refit import SmartRule
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.learner import training_priors
from tests.cached_splits import made_split, options_of, split_of
from tests.core.test_ensemble import PARAMS
from tests.rules.test_gating import task_of

SPECS = learner_specs(("a", "b", "c"))


def test_table_1_by_hand() -> None:
    # Six learners (a, b, c, ab, ac, bc), one sample a class; each predicts class a for everything.
    probs = np.zeros((3, 6, 3), np.float32)
    probs[..., 0] = 1
    split = made_split(np.arange(3), probs)
    specialised, complementary, overall = learner_accuracies(split, SPECS)
    # On their own classes: 1, 0, 0, 1/2, 1/2, 0. On the others: 0, 1/2, 1/2, 0, 0, 1.
    assert specialised == np.mean([1, 0, 0, 0.5, 0.5, 0])
    assert complementary == np.mean([0, 0.5, 0.5, 0, 0, 1])
    assert overall == np.float64(1 / 3)


def test_a_learner_of_all_classes_has_no_complement() -> None:
    probs = np.zeros((2, 3, 2), np.float32)
    probs[..., 0] = 1
    split = made_split(np.arange(2), probs)
    assert learner_accuracies(split, learner_specs(("a", "b"))) == (0.5, 0.5, 0.5)


def test_priors_are_of_what_the_learners_that_vote_are_trained_on(tmp_path: Path) -> None:
    options = Options(
        preset="smoke",
        data_dir=tmp_path,
        run_dir=tmp_path / "run",
        seed=1,
        num_samples=None,
        time_budget=None,
        mlflow_uri="none",
        selector_split="holdout",
    )
    prepared, task = prepare(load_experiment("digits", "smoke"), options), task_of(epochs=1)
    network = TrainedNetwork({}, 0.0, ())
    found = rule_options(prepared, replace(task, seed=1), SmartRule(PARAMS), network, 2).priors_NC
    labels_S = prepared.splits["train"].labels_S  # without the fifth that is held out
    expected = training_priors(prepared.specs, labels_S, prepared.experiment, 1)
    np.testing.assert_array_equal(found, expected)


def paper_rules(train: Split, test: Split) -> dict[str, ProbsDSC]:
    """The class probabilities of the paper's rules, e2e-CEL's correct for the first half."""
    n_samples = len(test.labels_S)
    wrong = (test.labels_S + 1) % 3
    smart = np.eye(3)[np.where(np.arange(n_samples) < n_samples // 2, test.labels_S, wrong)][None]
    rules = [RULES[key] for key in PAPER_RULES[1:]]
    return {"e2e_cel": smart, **predict_rules(rules, train, test, options_of(train, 2))[0]}


def test_every_rule_is_measured_on_the_chosen_classes() -> None:
    train, test = split_of(0, n_classes=3), split_of(1, n_classes=3)
    probs = paper_rules(train, test)
    assert probs["random_selection"].shape == (RANDOM_DRAWS, 200, 3)
    found = accuracies(probs, test, SPECS)
    assert set(found["accuracy"]) == {
        "e2e_cel",
        "super_learner",
        "unweighted_average",
        "plurality_vote",
        "random_selection",
        "oracle",
        "single_mean",
    }
    assert found["n_samples"] == 200
    assert found["accuracy"]["e2e_cel"] == 0.5
    assert found["accuracy"]["single_mean"] == found["overall"]
    average = test.probs_SNC.mean(1).argmax(-1)
    assert found["accuracy"]["unweighted_average"] == (average == test.labels_S).mean()
    perfect = {k: np.broadcast_to(np.eye(3)[test.labels_S], d.shape) for k, d in probs.items()}
    assert accuracies(perfect, test, SPECS)["accuracy"]["random_selection"] == 1.0
