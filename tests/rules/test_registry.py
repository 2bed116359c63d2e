import ast
import runpy
from collections import Counter
from dataclasses import MISSING, fields, replace
from pathlib import Path

import numpy as np
import pytest

import distcel
from distcel.core.cost import MultiplyAdds
from distcel.data.splits import Split
from distcel.experiment.types import Published
from distcel.rules import registry, untrained
from distcel.rules.consensus import SuperLearner
from distcel.rules.registry import (
    MEAN_LEARNER,
    ORACLE,
    PAPER_RULES,
    RULES,
    consensus_rules,
    predict_rules,
)
from distcel.rules.rule import ProbsDSC, Rule, RunFacts
from distcel.rules.static import LogisticStacking, TopLearners
from distcel.rules.trained import TRAINED
from tests.cached_splits import accuracy, options_of, split_of

COST = MultiplyAdds(selection_net=1000, learner=100, distance=3)
FACTS = RunFacts(6, 4, 50, 2, 5, COST, learned_k=3, chosen={"static_own_k": 4})


def predictions(
    train: Split, valid: Split, test: Split, k: int = 1
) -> tuple[dict[str, ProbsDSC], dict[str, float]]:
    return predict_rules(consensus_rules("train"), train, test, options_of(valid, k))


def with_an_expert(split: Split, learner: int) -> Split:
    """The split, with one learner whose predictions are all correct."""
    probs = split.probs_SNC.copy()
    probs[:, learner] = 0.99 * np.eye(4)[split.labels_S] + 0.0025
    return replace(split, probs_SNC=probs)


def test_what_is_chosen_on_valid_is_reported() -> None:
    train, valid, test = (split_of(i) for i in range(3))
    probs, chosen = predictions(train, valid, test)
    assert set(chosen) == {key for key, rule in RULES.items() if rule.chosen}
    same = TopLearners(int(chosen["static_own_k"])).fit(valid)(test)
    np.testing.assert_allclose(probs["static_own_k"][0], same)
    accuracies = [accuracy(TopLearners(k), valid, valid) for k in range(1, 7)]
    assert chosen["static_own_k"] == 1 + int(np.argmax(accuracies)) > 1
    stacking = LogisticStacking(inverse_penalty=chosen["stacking"]).fit(train)(test)
    np.testing.assert_allclose(probs["stacking"][0], stacking)
    super_learner = SuperLearner(penalty=chosen["super_learner"]).fit(train)(test)
    np.testing.assert_allclose(probs["super_learner"][0], super_learner)


def test_neighbours_are_left_out_on_a_holdout() -> None:
    kept, held_out = (
        {rule.key for rule in consensus_rules(split)} for split in ("crossfit", "holdout")
    )
    assert kept - held_out == {"nearest_neighbours"}


def test_meta_des_is_compared_only_where_deslib_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for spec in (None, object()):
        monkeypatch.setattr(registry, "find_spec", lambda _, spec=spec: spec)
        keys = {rule.key for rule in consensus_rules("train")}
        assert ("meta_des" in keys) == (spec is not None)


def test_rules_use_the_priors_and_the_embedding_they_are_given() -> None:
    train, valid, test = (split_of(i) for i in range(3))
    rules = [RULES[key] for key in ("prior_corrected_pool", "knora_union", "knora_eliminate")]
    options = options_of(valid)
    plain, _ = predict_rules(rules, train, test, options)
    priors = np.tile([0.7, 0.1, 0.1, 0.1], (6, 1))
    blind = replace(options, priors_NC=priors, embed=lambda s: np.zeros((len(s.labels_S), 1), "f4"))
    other, _ = predict_rules(rules, train, test, blind)
    for rule in rules:
        assert not np.allclose(plain[rule.key], other[rule.key]), rule.key


def test_learners_are_picked_on_valid_and_weights_are_fitted_on_train() -> None:
    train, valid, test = (
        with_an_expert(split_of(i), learner) for i, learner in enumerate((4, 5, 4))
    )
    probs, _ = predictions(train, valid, test)
    sixth = test.probs_SNC[:, 5].argmax(-1)
    for key in ("best_learner", "static_top_k", "discrete_super_learner", "greedy_selection"):
        np.testing.assert_array_equal(probs[key][0].argmax(-1), sixth)
    # Stacking follows the fifth, which is always correct on train and test.
    assert (probs["stacking"][0].argmax(-1) == test.labels_S).mean() > 0.95


def test_how_many_learners_each_rule_uses_and_its_cost() -> None:
    found = {key: (rule.n_used(FACTS), rule.cost(FACTS)) for key, rule in RULES.items()}
    assert found == {
        "e2e_cel": (2, 1200),
        "super_learner": (6, 600),
        "unweighted_average": (6, 600),
        "plurality_vote": (6, 600),
        "fc_super_learner": (6, 600 + 128 * 4 * 7),
        "fc_super_learner_on_train": (6, 600 + 128 * 4 * 7),
        "random_selection": (2, 200),
        "random_selection_of_all": (6, 600),
        "prior_corrected_pool": (6, 600),
        "best_learner": (1, 100),
        "static_top_k": (2, 200),
        "static_own_k": (4, 400),
        "discrete_super_learner": (1, 100),
        "greedy_selection": (None, None),
        "stacking": (6, 600 + 6 * 16),
        "knora_union": (None, None),
        "knora_eliminate": (None, None),
        "nearest_neighbours": (0, 50 * 3),
        "meta_des": (None, None),
        "e2e_cel_eq_7": (5, 1500),
        "single_network": (0, 100),
        "straight_through": (2, 1200),
        "soft_gating": (6, 1600),
        "brief_single_network": (0, 100),
        "learned_vote": (3, 1300 + 3 * 16),
        "e2e_cel_from_classifier": (2, 1200),
        "constant_control": (None, None),
        "shuffled_control": (None, None),
    }
    assert (ORACLE.cost(FACTS), MEAN_LEARNER.cost(FACTS)) == (None, None)


def test_the_papers_rules_do_not_depend_on_the_order_of_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(untrained, "CONSENSUS", untrained.CONSENSUS[::-1])
    assert runpy.run_path(registry.__file__)["PAPER_RULES"] == PAPER_RULES
    published = {field.name for field in fields(Published)}
    assert set(PAPER_RULES) == published & set(RULES)


def test_every_rule_can_be_built_or_is_trained() -> None:
    assert all(rule.build for rule in untrained.CONSENSUS)
    assert not any(rule.build for rule in TRAINED)
    assert len(RULES) == 1 + len(untrained.CONSENSUS) + len(TRAINED)  # no key is there twice


@pytest.mark.parametrize("lacking", ["cost", "n_used", "fitted_on", "title", "about"])
def test_a_rule_that_lacks_a_fact_does_not_import(lacking: str) -> None:
    tree = ast.parse(Path(untrained.__file__).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    rule = next(call for call in calls if getattr(call.func, "id", "") == "Rule")
    exec(compile(tree, "untrained.py", "exec"), {"__name__": "whole"})
    rule.keywords = [keyword for keyword in rule.keywords if keyword.arg != lacking]
    with pytest.raises(TypeError, match=lacking):
        exec(compile(tree, "untrained.py", "exec"), {"__name__": "without"})


def test_what_a_report_needs_of_a_rule_has_no_default() -> None:
    without = {field.name for field in fields(Rule) if field.default is MISSING}
    assert without == {"key", "title", "about", "fitted_on", "n_used", "cost"}


def test_a_title_is_written_once() -> None:
    """A second table of titles, a parallel one, would be a second place to change."""
    package = Path(distcel.__file__).parent
    strings = Counter(
        node.value
        for room in ("rules", "evaluate", "report")
        for path in (package / room).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    titles = [rule.title for rule in (*RULES.values(), MEAN_LEARNER)]
    assert {title: strings[title] for title in titles} == dict.fromkeys(titles, 1)
