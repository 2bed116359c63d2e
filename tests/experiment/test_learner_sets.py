import math
from dataclasses import replace
from typing import Any

import pytest

from distcel.experiment.errors import InvalidInputError
from distcel.experiment.learner_sets import Clients, checked_sets, learner_specs
from distcel.experiment.loading import load_experiment


def test_there_is_a_learner_for_each_class_and_each_pair() -> None:
    specs = learner_specs(("cat", "dog", "owl"))
    assert [(spec.name, spec.classes) for spec in specs] == [
        ("cat", (0,)),
        ("dog", (1,)),
        ("owl", (2,)),
        ("cat+dog", (0, 1)),
        ("cat+owl", (0, 2)),
        ("dog+owl", (1, 2)),
    ]
    for c, n in ((2, 3), (5, 15), (7, 28), (10, 55)):
        assert len(learner_specs(tuple(map(str, range(c))))) == n == c + math.comb(c, 2)


def test_one_class_leaves_nothing_to_select() -> None:
    with pytest.raises(InvalidInputError, match=r"expected at least two classes, but got \['cat'"):
        learner_specs(("cat",))


def test_a_single_is_the_specialist_of_its_class_and_a_group_that_of_its_pair() -> None:
    names = ("cat", "dog", "owl")
    specialists = {spec.name: spec for spec in learner_specs(names)}
    singles = learner_specs(names, "singles")
    assert singles == tuple(specialists[name] for name in names)
    first, second = learner_specs(names, (("owl", "cat"), ("cat", "dog", "owl")))
    assert first == specialists["cat+owl"]  # in the order of the labels, and so of the same key
    assert (second.name, second.classes) == ("cat+dog+owl", (0, 1, 2))


def test_a_group_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"among \('cat', 'dog'\), but got \['owl'\]"):
        learner_specs(("cat", "dog"), (("cat",), ("dog", "owl")))


def test_groups_may_be_lists() -> None:
    given: Any = [["1"], ["2", "3"]]
    sets = replace(load_experiment("digits"), learner_sets=given).learner_sets
    assert sets == (("1",), ("2", "3"))
    assert checked_sets(Clients(3, 0.5)) == Clients(3, 0.5)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("pairs", "learner_sets in .*singles"),
        (3, "Clients or groups of classes, but got 3"),
        ([["a"]], "at least two groups"),
        ([["a"], "b"], "names of classes as a group of learner_sets, but got 'b'"),
        ([["a"], []], "names of classes as a group"),
        ([["a"], [1]], "names of classes as a group"),
        ([["a"], ["b", "b"]], "different classes in a group"),
        ([["a", "b"], ["b", "a"]], "groups of learner_sets that differ"),
    ],
)
def test_other_learner_sets_are_refused(sets: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        checked_sets(sets)
