"""The registry of all rules, in the order of the tables, and the predictions of the untrained ones.

A rule that trains no network is an entry of `untrained.CONSENSUS`, a trained rule one of
`trained.TRAINED`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from distcel.data.splits import Split
from distcel.execute.process import worker_settings
from distcel.experiment.types import SelectorSplit
from distcel.rules.consensus import BestOnValid
from distcel.rules.rule import ProbsDSC, Rule, RuleOptions, predict_draws, unknown
from distcel.rules.trained import SMART, TRAINED
from distcel.rules.untrained import CONSENSUS

# The upper and the lower reference, measured on the learners' own predictions beside the rules.
ORACLE = Rule(
    key="oracle",
    title="oracle",
    about="the share of images that at least one learner gets right",
    fitted_on="nothing",
    n_used=unknown,
    cost=unknown,
)
MEAN_LEARNER = Rule(
    key="single_mean",
    title="mean base learner",
    about="the mean accuracy of the learners, each by itself",
    fitted_on="nothing",
    n_used=unknown,
    cost=unknown,
)
# The keys of the paper's rules.
PAPER_RULES = (
    SMART.key,
    "super_learner",
    "unweighted_average",
    "plurality_vote",
    "random_selection",
)
RULES: Mapping[str, Rule] = {rule.key: rule for rule in (SMART, *CONSENSUS, *TRAINED)}


def consensus_rules(selector_split: SelectorSplit) -> list[Rule]:
    """The rules that train no network and can be compared here.

    META-DES needs the extra `deslib`. With `holdout` a rule that uses no learners is left out: it
    would have the held-out fifth alone, while the other rules' learners were trained on the rest.
    """
    return [
        rule
        for rule in CONSENSUS
        if (rule.key != "meta_des" or find_spec("deslib"))
        and (rule.uses_learners or selector_split != "holdout")
    ]


def predict_rules(
    rules: Sequence[Rule],
    train: Split,
    test: Split,
    options: RuleOptions,
) -> tuple[dict[str, ProbsDSC], dict[str, float]]:
    """Predict the test split by each rule.

    Args:
        rules: rules that train no network.
        train: the split for rules that are fitted on train.
        test: the samples to predict.
        options: what rules are built with. Its valid split is for rules that are fitted on valid,
            and for settings.

    Returns:
        tuple: the class probabilities, (D, S, C), and the settings that were chosen on valid, each
        by the rule's key.
    """
    splits = {"nothing": train, "train": train, "valid": options.valid}
    probs: dict[str, ProbsDSC] = {}
    chosen: dict[str, float] = {}
    with worker_settings():  # on small arrays two threads wait for each other
        for rule in rules:
            assert rule.build is not None, f"{rule.key} trains a network"
            draws, fitted = rule.build(options), splits[rule.fitted_on]
            if rule.chosen is not None and isinstance(draws[0], BestOnValid):
                best, vote = draws[0].choose(fitted)
                chosen[rule.key] = getattr(best, rule.chosen)
                probs[rule.key] = vote(test).numpy()[None]
            else:
                probs[rule.key] = predict_draws(draws, fitted, test)
    return probs, chosen
