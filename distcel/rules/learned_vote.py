"""The learned vote of few: searched as the paper's vote is, with k at most a third of n."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from distcel.execute.jobs import Executor
from distcel.rules.trained import TITLES, Chosen
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, refit_best
from distcel.search.search import run_search
from distcel.search.trials import NoCompleteTrialError, TrialRecord, TrialStore

logger = logging.getLogger(__name__)


def third_of(n_learners: int) -> int:
    """The largest k of at most a third of the learners, at least 1."""
    return max(1, n_learners // 3)


def search_learned_vote(
    prepared: Prepared, shared: Any, executor: Executor
) -> tuple[Chosen, TrialRecord] | None:
    """Search as many trials of the learned vote as the run has of the paper's.

    The first one asks as many learners as it may: each brings a matrix of its own. The search is
    kept as any is: a later launch goes on with it.

    Args:
        prepared: the run, whose own search is done.
        shared: what a trial trains on.
        executor: runs the trials and the refit on workers.

    Returns:
        Chosen, TrialRecord: the ensemble that is best on valid, its seconds those of all trials and
        of the refit, and its trial with all epochs; None, with a message, where no trial is
        complete.

    Raises:
        RunFailedError: workers were lost over the refit again and again.
    """
    own, title = _restricted(prepared), TITLES["learned_vote"]
    store = TrialStore(own.search_folder / "trials")
    run_search(shared, own.search, store, executor, own.search_folder / "tune")
    try:
        network, best = refit_best(shared, store, executor, own.search_folder / "refit")
    except NoCompleteTrialError as error:
        logger.warning("%s: %s", title, error)
        return None
    store.close(own.search.num_samples)
    valid = best.valid_accuracy
    logger.info("%s: refit of trial %d: valid %.4f", title, best.number, valid)
    seconds = store.seconds + best.seconds
    return Chosen(SmartRule(best.params), network, best.params.lr, seconds), best


def _restricted(prepared: Prepared) -> Prepared:
    """The same run, whose search is another one: its folder is named after its space."""
    search = prepared.search
    ks, most = _at_most(third_of(len(prepared.specs)), search.space["k"])
    space = search.space | {"k": ks, "vote": CategoricalDistribution(["learned"])}
    first = replace(search.first, k=most, vote="learned")
    done = len(TrialStore(prepared.search_folder / "trials").finished())
    # No time budget: a later launch would add trials when the test split has been read.
    own = replace(search, space=space, first=first, num_samples=done, time_budget=None)
    return replace(prepared, search=own)


def _at_most(most: int, ks: BaseDistribution) -> tuple[BaseDistribution, int]:
    """The distribution without what is above `most`, and its highest value."""
    if isinstance(ks, CategoricalDistribution):  # fixed, or a choice of the user's own space
        if "any" in ks.choices:  # each learner's matrix is trained for one k
            return IntDistribution(1, most, log=True), most
        few = sorted({min(k, most) for k in ks.choices})  # type: ignore[type-var]
        return CategoricalDistribution(few), few[-1]  # type: ignore[return-value]
    assert isinstance(ks, IntDistribution), "k is a whole number"
    low, high = min(ks.low, most), min(ks.high, most)
    high -= (high - low) % ks.step
    return IntDistribution(low, high, log=ks.log, step=ks.step), high
