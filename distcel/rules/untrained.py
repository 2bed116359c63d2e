"""The consensus rules that train no network, in the order of the tables; add a new one here.

Parameters are fitted on `train`. Learners are selected by their accuracy on `valid`, which they
have not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

from distcel.rules.consensus import (
    RANDOM_DRAWS,
    SL_PENALTIES,
    BestOnValid,
    PluralityVote,
    SuperLearner,
    UnweightedAverage,
    random_selections,
    super_learner,
)
from distcel.rules.neighbours import KnoraEliminate, KnoraUnion, NearestNeighbours
from distcel.rules.rule import (
    ConsensusRule,
    Rule,
    RuleOptions,
    RunFacts,
    all_learners,
    cost_of_learners,
    k_learners,
    no_learners,
    one_learner,
    unknown,
)
from distcel.rules.static import (
    INVERSE_PENALTIES,
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    TopLearners,
)


def _build_meta_des(_: RuleOptions) -> Sequence[ConsensusRule]:
    from distcel.rules.meta_des import MetaDES  # it needs the optional extra

    return [MetaDES()]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _own_k(facts: RunFacts) -> int | None:
    k = facts.chosen.get("static_own_k")
    return None if k is None else int(k)


def _distances(facts: RunFacts) -> int:
    return facts.n_train * facts.multiply_adds.distance


_COUNT = NearestNeighbours().count
CONSENSUS = (
    Rule(
        key="super_learner",
        title="SL",
        about="the softmax of the outputs' sum, weighted with one number a learner; the paper does "
        "not say what its own Super Learner is. The penalty on the squared distance of the weights "
        f"from one is chosen on valid among {_listed(SL_PENALTIES)}; L-BFGS has at most "
        f"{SuperLearner().max_iterations} iterations",
        fitted_on="train",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda options: [super_learner(options.valid)],
        chosen="penalty",
    ),
    Rule(
        key="unweighted_average",
        title="UA",
        about="the mean of all learners' outputs",
        fitted_on="nothing",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda _: [UnweightedAverage()],
    ),
    Rule(
        key="plurality_vote",
        title="PV",
        about="the class that most learners rank first",
        fitted_on="nothing",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda _: [PluralityVote()],
    ),
    Rule(
        key="random_selection",
        title="RS",
        about="the mean output of learners drawn at random, as many as the smart ensemble takes: "
        f"the mean accuracy of {RANDOM_DRAWS} draws",
        fitted_on="nothing",
        n_used=k_learners,
        cost=cost_of_learners(k_learners),
        build=lambda options: random_selections(options.k, options.seed),
    ),
    Rule(
        key="best_learner",
        title="best learner",
        about="the one most accurate on valid",
        fitted_on="valid",
        n_used=one_learner,
        cost=cost_of_learners(one_learner),
        build=lambda _: [TopLearners(1)],
    ),
    Rule(
        key="static_top_k",
        title="static top-k",
        about="the mean output of the most accurate on valid, as many as the smart ensemble takes",
        fitted_on="valid",
        n_used=k_learners,
        cost=cost_of_learners(k_learners),
        build=lambda options: [TopLearners(options.k)],
    ),
    Rule(
        key="static_own_k",
        title="static top-k of its own k",
        about="the mean output of the k most accurate on valid, k chosen there as well",
        fitted_on="valid",
        n_used=_own_k,
        cost=cost_of_learners(_own_k),
        build=lambda options: [
            BestOnValid(
                tuple(TopLearners(k) for k in range(1, options.valid.probs_SNC.shape[1] + 1)),
                options.valid,
            )
        ],
        chosen="k",
    ),
    Rule(
        key="discrete_super_learner",
        title="discrete SL",
        about="the one learner with the lowest cross entropy on valid",
        fitted_on="valid",
        n_used=one_learner,
        cost=cost_of_learners(one_learner),
        build=lambda _: [DiscreteSuperLearner()],
    ),
    Rule(
        key="greedy_selection",
        title="greedy selection",
        about="the mean output of learners added one at a time, with replacement, to be most "
        f"accurate on valid (Caruana et al. 2004): {GreedySelection().n_rounds} rounds, no bagging",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=lambda _: [GreedySelection()],
    ),
    Rule(
        key="stacking",
        title="logistic stacking",
        about="multinomial regression on the standardised logarithms of all outputs. Its inverse "
        "penalty, scikit-learn's C, is chosen on valid among "
        f"{_listed(INVERSE_PENALTIES)}; L-BFGS has at most {LogisticStacking().max_iterations} "
        "iterations",
        fitted_on="train",
        n_used=all_learners,
        cost=cost_of_learners(all_learners, matrices=True),
        build=lambda options: [
            BestOnValid(tuple(map(LogisticStacking, INVERSE_PENALTIES)), options.valid)
        ],
        chosen="inverse_penalty",
    ),
    Rule(
        key="knora_union",
        title="KNORA-U",
        about=f"a learner votes once for each of the {_COUNT} nearest images of valid that it gets "
        "right, by the pixels' distance (Ko et al. 2008)",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=lambda _: [KnoraUnion()],
    ),
    Rule(
        key="knora_eliminate",
        title="KNORA-E",
        about=f"the learners that get all of the {_COUNT} nearest images of valid right vote, or "
        "of as many of the nearest as any gets right",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=lambda _: [KnoraEliminate()],
    ),
    Rule(
        key="nearest_neighbours",
        title="nearest neighbours",
        about=f"the classes' shares of the {_COUNT} nearest training images by the pixels' "
        "distance, which means little for photographs; a multiply-add a pixel of each image kept",
        fitted_on="train",
        n_used=no_learners,
        cost=_distances,
        build=lambda _: [NearestNeighbours()],
    ),
    Rule(
        key="meta_des",
        title="META-DES",
        about="a classifier judges which learners are competent for an image, by the "
        f"{_COUNT} nearest images of valid and by similar outputs (Cruz et al. 2015); the mean "
        "output of those",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=_build_meta_des,
    ),
)
