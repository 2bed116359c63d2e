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
    RandomSelection,
    SuperLearner,
    UnweightedAverage,
    random_selections,
    super_learner,
)
from distcel.rules.fully_connected import PENALTIES, FullyConnected
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
    PriorCorrectedPool,
    TopLearners,
)


def _build_meta_des(options: RuleOptions) -> Sequence[ConsensusRule]:
    from distcel.rules.meta_des import MetaDES  # it needs the optional extra

    return [MetaDES(options.embed)]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _own_k(facts: RunFacts) -> int | None:
    k = facts.chosen.get("static_own_k")
    return None if k is None else int(k)


def _hidden_units(facts: RunFacts) -> int:
    """All learners, and the two layers of a fully connected network on their outputs."""
    hidden, learners = FullyConnected(0).hidden, facts.multiply_adds.of_learners(facts.n_learners)
    return learners + hidden * facts.n_classes * (facts.n_learners + 1)


def _distances(facts: RunFacts) -> int:
    return facts.n_train * facts.multiply_adds.distance


_COUNT = NearestNeighbours().count
CONSENSUS = (
    Rule(
        key="super_learner",
        title="SL",
        about="the softmax of the outputs' sum, weighted with one number a learner, the same for "
        "every image. The penalty on the squared distance of the weights from one is chosen on "
        f"valid among {_listed(SL_PENALTIES)}; L-BFGS has at most "
        f"{SuperLearner().max_iterations} iterations",
        fitted_on="train",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda options: [super_learner(options.valid)],
        chosen="penalty",
    ),
    Rule(
        key="fc_super_learner",
        title="FC-SL",
        about="the Super Learner of the paper's Section 5, a fully connected network: "
        f"{FullyConnected(0).hidden} hidden units on the logarithms of all outputs. It is fitted "
        "on valid, which no learner has seen, and its weight decay (of "
        f"{_listed(PENALTIES)}) and epochs (at most {FullyConnected(0).max_epochs}) are chosen by "
        "the cross entropy on five folds of it (Ju et al. 2018)",
        fitted_on="valid",
        n_used=all_learners,
        cost=_hidden_units,
        build=lambda options: [FullyConnected(options.seed)],
    ),
    Rule(
        key="fc_super_learner_on_train",
        title="FC-SL on train",
        about="the same network fitted on train, weight decay and epochs chosen on valid",
        fitted_on="train",
        n_used=all_learners,
        cost=_hidden_units,
        build=lambda options: [FullyConnected(options.seed, options.valid)],
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
        key="random_selection_of_all",
        title="RS, k = n",
        about="random selection of all n learners, which is UA by another name: the paper's RS and "
        "UA are equal or all but equal on each data set",
        fitted_on="nothing",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda options: [RandomSelection(options.priors_NC.shape[0], (options.seed, 0))],
    ),
    Rule(
        key="prior_corrected_pool",
        title="prior-corrected pool",
        about="the sum over all learners of log p_i - log prior_i, prior_i being the class shares "
        "of learner i's training samples, plus n times the logarithm of train's own class shares, "
        "which decide nothing where classes are equally large; divided by n, its softmax is the "
        "prediction. Nothing is fitted",
        fitted_on="nothing",
        n_used=all_learners,
        cost=cost_of_learners(all_learners),
        build=lambda options: [PriorCorrectedPool(options.priors_NC)],
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
        "right, by the distance in the selection net's embedding, the input of its last layer "
        "(Ko et al. 2008)",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=lambda options: [KnoraUnion(options.embed)],
    ),
    Rule(
        key="knora_eliminate",
        title="KNORA-E",
        about=f"the learners that get all of the {_COUNT} nearest images of valid right vote, or "
        "of as many of the nearest as any gets right, by the same distance",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=lambda options: [KnoraEliminate(options.embed)],
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
        f"{_COUNT} nearest images of valid, by the same distance, and by similar outputs (Cruz et "
        "al. 2015); the mean output of those",
        fitted_on="valid",
        n_used=unknown,
        cost=unknown,
        build=_build_meta_des,
    ),
)
