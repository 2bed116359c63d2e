"""Every rule that trains no network, with the split that it is fitted on.

What has to be fitted is fitted on `train`; what picks learners by how well they do is fitted on
`valid`, which they have not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Literal

from distcel.experiment.types import SelectorSplit
from distcel.rules.consensus import (
    RANDOM_DRAWS,
    RULE_TITLES,
    SL_PENALTIES,
    BestOnValid,
    ConsensusRule,
    Draws,
    SuperLearner,
    consensus_rules,
    said_by,
)
from distcel.rules.neighbours import KnoraEliminate, KnoraUnion, NearestNeighbours
from distcel.rules.static import (
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    TopLearners,
)
from distcel.train.cache import CachedSplit

OWN_K = "static top-k of its own k"
FittedOn = Literal["-", "train", "valid"]  # "-": nothing is learnt
_STACKINGS = tuple(LogisticStacking(inverse_penalty=10.0**power) for power in range(-4, 3))
SETTINGS = (
    "Best learner and static top-k are the most accurate on valid, discrete SL is the one learner "
    "with the lowest cross entropy. "
    f"Static top-k and RS have e2e-CEL's k; RS is the mean of {RANDOM_DRAWS} draws.",
    "Logistic stacking is multinomial regression on the standardised logarithms of all outputs.",
    "Chosen on valid: SL's penalty on the squared distance of its weights from one, among "
    f"{', '.join(f'{x:g}' for x in SL_PENALTIES)}, and stacking's inverse penalty, scikit-learn's "
    f"C, among {', '.join(f'{one.inverse_penalty:g}' for one in _STACKINGS)}. Their L-BFGS has at "
    f"most {SuperLearner().max_iterations} and {_STACKINGS[0].max_iterations} iterations.",
    f"Nearest neighbours, KNORA and META-DES ask {NearestNeighbours().count} by the pixels' "
    "distance, which tells little of photographs. META-DES averages the learners that it takes. "
    f"Greedy selection has {GreedySelection().n_rounds} rounds, without bagging.",
)
FITTED_ON: Mapping[str, FittedOn] = {
    "SL": "train",
    "UA": "-",
    "PV": "-",
    "RS": "-",
    "best learner": "valid",
    "static top-k": "valid",
    OWN_K: "valid",
    "discrete SL": "valid",
    "greedy selection": "valid",
    "logistic stacking": "train",
    "nearest neighbours": "train",
    "KNORA-U": "valid",
    "KNORA-E": "valid",
    "META-DES": "valid",
}
CHOSEN_ON_VALID = {
    "SL": "penalty",
    OWN_K: "k",
    "logistic stacking": "inverse_penalty",
}


def rules(
    k: int, seed: int, valid: CachedSplit, selector_split: SelectorSplit
) -> dict[str, Sequence[ConsensusRule]]:
    """Every rule by its title; several of one kind are draws, whose accuracies are averaged.

    Args:
        k: learners that the rules which are told so may ask.
        seed: of random selection.
        valid: chooses SL's and stacking's penalty and static top-k's own k.
        selector_split: what `train` is. Nearest neighbours ask no learner, so that nothing has to
            be held out for them: with `holdout` they are not there, a fifth being no rival.
    """
    every_k = tuple(TopLearners(size) for size in range(1, valid.probs_SNC.shape[1] + 1))
    papers = {RULE_TITLES[name]: draws for name, draws in consensus_rules(k, seed, valid).items()}
    further: dict[str, Sequence[ConsensusRule]] = {
        "best learner": [TopLearners(1)],
        "static top-k": [TopLearners(k)],
        OWN_K: [BestOnValid(every_k, valid)],
        "discrete SL": [DiscreteSuperLearner()],
        "greedy selection": [GreedySelection()],
        "logistic stacking": [BestOnValid(_STACKINGS, valid)],
        "KNORA-U": [KnoraUnion()],
        "KNORA-E": [KnoraEliminate()],
    }
    if selector_split != "holdout":
        further["nearest neighbours"] = [NearestNeighbours()]
    if find_spec("deslib"):
        from distcel.rules.meta_des import MetaDES

        further["META-DES"] = [MetaDES()]
    return {**papers, **further}


def said_by_rules(
    train: CachedSplit,
    valid: CachedSplit,
    test: CachedSplit,
    k: int,
    seed: int,
    selector_split: SelectorSplit,
) -> tuple[dict[str, Draws], dict[str, float]]:
    """Every rule's class probabilities for each test sample, and what some chose on valid.

    Both by the rule's title; `CHOSEN_ON_VALID` names what is chosen.
    """
    splits: dict[FittedOn, CachedSplit] = {"-": train, "train": train, "valid": valid}
    said: dict[str, Draws] = {}
    settings: dict[str, float] = {}
    for title, draws in rules(k, seed, valid, selector_split).items():
        fitted = splits[FITTED_ON[title]]
        if isinstance(draws[0], BestOnValid):
            rule, vote = draws[0].choose(fitted)
            settings[title] = getattr(rule, CHOSEN_ON_VALID[title])
            said[title] = vote(test).numpy()[None]
        else:
            said[title] = said_by(draws, fitted, test)
    return said, settings
