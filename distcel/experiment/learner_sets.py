"""Learner sets: which base learners there are, and on which classes or samples each is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal, get_args

from distcel.experiment.errors import invalid, require, require_count, require_positive


@dataclass(frozen=True)
class LearnerSpec:
    """A base learner.

    Attributes:
        name: of its classes, or of its client.
        classes: the classes that it specialises in; of a client, those that it has more of than
            the other clients have on average.
        client: the number of the federated client whose samples it is trained on; None for a
            learner that is trained on samples of the whole train split.
    """

    name: str
    classes: tuple[int, ...]
    client: int | None = None

    def description(self) -> dict[str, Any]:
        """The fields that determine the learner, for its key."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Clients:
    """Federated clients: a base learner each, trained on samples that no other client has.

    The samples of every class are divided among the clients in proportions that are drawn from a
    symmetric Dirichlet distribution (Hsu, Qi, Brown 2019).

    Attributes:
        n: number of clients.
        alpha: concentration; with a small one each client has few classes, with a large one all
            have the same.
    """

    n: int
    alpha: float

    def __post_init__(self) -> None:
        require_count("n", self.n)
        require_positive("alpha", self.alpha)


# The paper's specialists are a learner for each class and pair of classes, singles one for each
# class; groups have the names of the classes that each learner specialises in.
NamedSets = Literal["specialists", "singles"]
Groups = tuple[tuple[str, ...], ...]
LearnerSets = NamedSets | Clients | Groups


def checked_sets(sets: object) -> LearnerSets:
    """The learner sets, with groups of classes as tuples.

    Args:
        sets: a name, Clients, or a sequence of groups, each a sequence of names of classes.

    Raises:
        InvalidInputError: they are none of these, fewer than two groups, or a group twice.
    """
    names = get_args(NamedSets)
    if isinstance(sets, Clients) or (isinstance(sets, str) and sets in names):
        return sets  # type: ignore[return-value]
    rule = f"learner_sets in {names}, Clients or groups of classes"
    require(isinstance(sets, list | tuple), rule, sets, "give one of these")
    assert isinstance(sets, list | tuple), "just checked"
    require(len(sets) >= 2, "at least two groups of classes as learner_sets", sets, "add another")
    for group in sets:
        _require_group(group)
    unordered = [frozenset(group) for group in sets]
    twice = [group for i, group in enumerate(sets) if unordered[i] in unordered[:i]]
    require(not twice, "groups of learner_sets that differ", twice, "leave the second one out")
    return tuple(tuple(group) for group in sets)


def _require_group(group: object) -> None:
    named = isinstance(group, list | tuple) and len(group) > 0
    named = named and all(isinstance(name, str) for name in group)  # type: ignore[attr-defined]
    rule, remedy = "names of classes as a group of learner_sets", 'give such as ["cat", "dog"]'
    require(named, rule, group, remedy)
    assert isinstance(group, list | tuple), "just checked"
    repeated = len(set(group)) < len(group)
    require(not repeated, "different classes in a group of learner_sets", group, "name each once")


def learner_specs(
    class_names: Sequence[str], sets: NamedSets | Groups = "specialists"
) -> tuple[LearnerSpec, ...]:
    """The base learners of a data set's c classes; of specialists n = c + C(c, 2), of singles c.

    A learner's classes are in the order of the labels, whatever the order in its group.

    Raises:
        InvalidInputError: fewer than two classes, which leave nothing to select, or a group has a
            class that the data do not have.
    """
    count = len(class_names)
    require(count >= 2, "at least two classes", list(class_names), "add images of another class")
    if isinstance(sets, tuple):
        groups = [_labels(group, class_names) for group in sets]
    else:
        groups = [(i,) for i in range(count)]
        groups += list(combinations(range(count), 2)) if sets == "specialists" else []
    return tuple(LearnerSpec("+".join(class_names[i] for i in group), group) for group in groups)


def _labels(group: Sequence[str], class_names: Sequence[str]) -> tuple[int, ...]:
    unknown = [name for name in group if name not in class_names]
    if unknown:
        rule = f"classes of learner_sets among {tuple(class_names)}"
        raise invalid(rule, repr(unknown), "name them as the data do")
    return tuple(sorted(class_names.index(name) for name in group))
