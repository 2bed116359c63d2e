"""The learned vote of few: searched as the paper's vote is, with k at most a third of n."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from torch import Tensor

from distcel.execute.jobs import Executor
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, refit_best
from distcel.search.search import run_search
from distcel.search.trials import NoCompleteTrialError, TrialRecord, TrialStore
from distcel.train.cache import CachedSplit
from distcel.train.checkpoint import TrainedNetwork
from distcel.train.selection import SelectionTask

logger = logging.getLogger(__name__)

LEARNED_VOTE = "learned vote of few"


@dataclass(frozen=True)
class FoundVote:
    """What its search found.

    Attributes:
        network: the ensemble that is best on valid.
        trial: its trial, with all epochs.
        seconds: that the epochs of all trials and of the refit took, each on its own worker.
    """

    network: TrainedNetwork
    trial: TrialRecord
    seconds: float

    def predict(self, task: SelectionTask, split: CachedSplit) -> Tensor:
        """Class probabilities, shape (S, C)."""
        return SmartRule(self.trial.params).predict(self.network, task, split)


def third_of(n_learners: int) -> int:
    """The largest k of at most a third of the learners, at least 1."""
    return max(1, n_learners // 3)


def search_learned_vote(prepared: Prepared, shared: Any, executor: Executor) -> FoundVote | None:
    """Search as many trials of the learned vote as the run has of the paper's.

    The first one asks as many learners as it may: each brings a matrix of its own. What is found
    is kept as any search is: a later launch goes on with it.

    Args:
        prepared: the run, whose own search is done.
        shared: the SelectionTask, as `executor.share` returned it.
        executor: how many trials run at once, and their resources.

    Returns:
        FoundVote: None, which is said, where no trial is complete.

    Raises:
        RunFailedError: workers died over the refit again and again.
    """
    own = _restricted(prepared)
    store = TrialStore(own.search_folder / "trials")
    run_search(shared, own.search, store, executor, own.search_folder / "tune")
    try:
        network, best = refit_best(shared, store, executor, own.search_folder / "refit")
    except NoCompleteTrialError as error:
        logger.warning("%s: %s", LEARNED_VOTE, error)
        return None
    store.close(own.search.num_samples)
    logger.info("%s: refit of trial %d: valid %.4f", LEARNED_VOTE, best.number, best.valid_accuracy)
    return FoundVote(network, best, store.seconds + best.seconds)


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
    if isinstance(ks, CategoricalDistribution):  # fixed, or a choice of a space of the user's
        few = sorted({min(k, most) for k in ks.choices})  # type: ignore[type-var]
        return CategoricalDistribution(few), few[-1]  # type: ignore[return-value]
    assert isinstance(ks, IntDistribution), "k is a whole number"
    low, high = min(ks.low, most), min(ks.high, most)
    high -= (high - low) % ks.step
    return IntDistribution(low, high, log=ks.log, step=ks.step), high
