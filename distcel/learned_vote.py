"""The learned vote of few: searched as the paper's vote is, with k at most a third of n."""

from __future__ import annotations

from dataclasses import dataclass, replace

from optuna.distributions import CategoricalDistribution, IntDistribution

from distcel.actor_pool import ActorPool
from distcel.ensemble import trained_ensemble
from distcel.predictions import CachedSplit
from distcel.prepare import Prepared
from distcel.report import Draws, said_by_smart
from distcel.search import run_search
from distcel.selection import TaskRef, refit_best
from distcel.trials import TrialStore
from distcel.types import TrialRecord

LEARNED_VOTE = "learned vote, k <= n/3"


def third_of(n_learners: int) -> int:
    """The largest k of at most a third of the learners, at least 1."""
    return max(1, n_learners // 3)


@dataclass(frozen=True)
class SearchedVote:
    """The best learned vote by the valid split.

    Attributes:
        best: its trial, with all epochs.
        probs_1SC: class probabilities of the test split, (1, S, C).
    """

    best: TrialRecord
    probs_1SC: Draws


def search_learned_vote(
    prepared: Prepared, task: TaskRef, test: CachedSplit, pool: ActorPool
) -> SearchedVote:
    """Search as many trials of the learned vote as the run has of the paper's.

    What is found is kept as any search is: a later launch goes on with it.

    Args:
        prepared: the run.
        task: what a trial trains on, in Ray's object store.
        test: the samples to predict.
        pool: how many trials run at once, and their resources.

    Raises:
        RunFailedError: no trial is complete, or workers died again and again.
    """
    own = _restricted(prepared)
    store = TrialStore(own.search_folder / "trials")
    run_search(task, own.search, store, pool, own.search_folder / "tune")
    weights, best = refit_best(task, store, pool, own.search_folder / "refit")
    print(f"{LEARNED_VOTE}: refit of trial {best.number}: valid {best.valid_accuracy:.4f}")
    _, n_learners, n_classes = test.probs_SNC.shape
    smart = trained_ensemble(own.plan, n_learners, n_classes, best.params, weights)
    return SearchedVote(best, said_by_smart(smart, test))


def _restricted(prepared: Prepared) -> Prepared:
    """The same run, whose search is another one: its folder is named after its space."""
    most = third_of(len(prepared.specs))
    space = prepared.search.space | {
        "k": IntDistribution(1, most),
        "vote": CategoricalDistribution(["learned"]),
    }
    first = prepared.search.first
    first = replace(first, k=min(first.k, most), vote="learned")
    return replace(prepared, search=replace(prepared.search, space=space, first=first))
