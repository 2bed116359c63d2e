"""The search of the learned vote with k at most a third of n."""

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
    """A third of the number of learners, rounded down, at least 1."""
    return max(1, n_learners // 3)


def search_learned_vote(
    prepared: Prepared, shared: Any, executor: Executor
) -> tuple[Chosen, TrialRecord] | None:
    """Search the learned vote with as many trials as the run's own search has.

    The first trial has the largest k. The search is kept like any other, and a later launch
    continues it.

    Args:
        prepared: the run, whose own search is done.
        shared: the TrainingTask, as `executor.share` returned it.
        executor: runs the trials and the refit.

    Returns:
        Chosen, TrialRecord: the ensemble that is best on valid, with the seconds of all trials and
        of the refit, and its trial with all epochs. None, with a logged warning, if no trial is
        complete.

    Raises:
        RunFailedError: workers were lost repeatedly.
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
    """The same run with the search of the learned vote; the key of its space names its folder."""
    search = prepared.search
    ks, most = _at_most(third_of(len(prepared.specs)), search.space["k"])
    space = search.space | {"k": ks, "vote": CategoricalDistribution(["learned"])}
    first = replace(search.first, k=most, vote="learned")
    done = len(TrialStore(prepared.search_folder / "trials").finished())
    # A time budget would let a later launch add trials after the test split was read.
    own = replace(search, space=space, first=first, num_samples=done, time_budget=None)
    return replace(prepared, search=own)


def _at_most(most: int, ks: BaseDistribution) -> tuple[BaseDistribution, int]:
    """The distribution without the values above `most`, and its highest value."""
    if isinstance(ks, CategoricalDistribution):  # k is fixed, or the user's space has choices
        if "any" in ks.choices:  # each learner's matrix is trained for one k
            return IntDistribution(1, most, log=True), most
        few = sorted({min(k, most) for k in ks.choices})  # type: ignore[type-var]
        return CategoricalDistribution(few), few[-1]  # type: ignore[return-value]
    assert isinstance(ks, IntDistribution), "k is a whole number"
    low, high = min(ks.low, most), min(ks.high, most)
    high -= (high - low) % ks.step
    return IntDistribution(low, high, log=ks.log, step=ks.step), high
