"""Every rule that trains no network, with the split that it is fitted on.

What has to be fitted is fitted on `train`; what picks learners by how well they do is fitted on
`valid`, which they have not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Literal

from distcel.consensus import (
    RANDOM_DRAWS,
    RULE_TITLES,
    ConsensusRule,
    Draws,
    consensus_rules,
    said_by,
)
from distcel.neighbour_rules import KnoraEliminate, KnoraUnion, NearestNeighbours
from distcel.predictions import CachedSplit
from distcel.static_rules import (
    BestOnValid,
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    TopLearners,
)

FittedOn = Literal["-", "train", "valid"]  # "-": nothing is learnt
_STACKINGS = tuple(LogisticStacking(inverse_penalty=10.0**power) for power in range(-4, 1))
SETTINGS = (
    "The rules' settings: static top-k and RS have e2e-CEL's k, and "
    f"RS is the mean of {RANDOM_DRAWS} draws; stacking's penalty is chosen on valid among "
    f"{len(_STACKINGS)}, C from {_STACKINGS[0].inverse_penalty:g} to "
    f"{_STACKINGS[-1].inverse_penalty:g}, with at most {_STACKINGS[0].max_iterations} iterations "
    f"of L-BFGS; nearest neighbours, KNORA and META-DES ask {NearestNeighbours().count} by the "
    f"pixels' distance; greedy selection has {GreedySelection().n_rounds} rounds, without bagging"
)
FITTED_ON: Mapping[str, FittedOn] = {
    "SL": "train",
    "UA": "-",
    "PV": "-",
    "RS": "-",
    "best learner": "valid",
    "static top-k": "valid",
    "static top-k of its own k": "valid",
    "discrete SL": "valid",
    "greedy selection": "valid",
    "logistic stacking": "train",
    "nearest neighbours": "train",
    "KNORA-U": "valid",
    "KNORA-E": "valid",
    "META-DES": "valid",
}


def rules(k: int, seed: int, valid: CachedSplit) -> dict[str, Sequence[ConsensusRule]]:
    """Every rule by its title; several of one kind are draws, whose accuracies are averaged.

    Args:
        k: learners that the rules which are told so may ask.
        seed: of random selection.
        valid: chooses stacking's penalty and static top-k's own k.
    """
    every_k = tuple(TopLearners(size) for size in range(1, valid.probs_SNC.shape[1] + 1))
    papers = {RULE_TITLES[name]: draws for name, draws in consensus_rules(k, seed).items()}
    further: dict[str, Sequence[ConsensusRule]] = {
        "best learner": [TopLearners(1)],
        "static top-k": [TopLearners(k)],
        "static top-k of its own k": [BestOnValid(every_k, valid)],
        "discrete SL": [DiscreteSuperLearner()],
        "greedy selection": [GreedySelection()],
        "logistic stacking": [BestOnValid(_STACKINGS, valid)],
        "nearest neighbours": [NearestNeighbours()],
        "KNORA-U": [KnoraUnion()],
        "KNORA-E": [KnoraEliminate()],
    }
    if find_spec("deslib"):
        from distcel.meta_des import MetaDES

        further["META-DES"] = [MetaDES()]
    return {**papers, **further}


def said_by_rules(
    train: CachedSplit, valid: CachedSplit, test: CachedSplit, k: int, seed: int
) -> dict[str, Draws]:
    """Every rule's class probabilities for each test sample, by its title."""
    fitted: dict[FittedOn, CachedSplit] = {"-": train, "train": train, "valid": valid}
    return {
        title: said_by(draws, fitted[FITTED_ON[title]], test)
        for title, draws in rules(k, seed, valid).items()
    }
