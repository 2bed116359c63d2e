"""What the paper's evaluation asks of a finished run, and what a reviewer would ask next.

Every rule votes on the same cached predictions of the test split. What has to be fitted is fitted
on `train`; what picks learners by how well they do is fitted on `valid`, which they have not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import ray
from torch import Tensor

from distcel.actor_pool import ActorPool
from distcel.consensus import ConsensusRule, oracle_accuracy
from distcel.ensemble import trained_ensemble
from distcel.neighbour_rules import KnoraEliminate, KnoraUnion, NearestNeighbours
from distcel.predictions import CachedSplit
from distcel.prepare import Prepared
from distcel.report import RULE_TITLES, Choices, chosen_by, consensus_rules, smart_choices
from distcel.selection import SelectionTask, TaskRef, refit
from distcel.significance import Difference, difference
from distcel.static_rules import (
    DiscreteSuperLearner,
    GreedySelection,
    LogisticStacking,
    TopLearners,
)
from distcel.training import DivergedError
from distcel.trials import TrialStore, best_trial
from distcel.types import SPLIT_NAMES, TrialRecord

FittedOn = Literal["train", "valid"]
SMART = RULE_TITLES["e2e_cel"]
N_CURVE = 9  # values of k in Figure 2, beside the chosen one


def rules(k: int, seed: int) -> dict[str, tuple[FittedOn, Sequence[ConsensusRule]]]:
    """Every rule by its title; several of one kind are draws, whose accuracies are averaged."""
    papers: dict[str, tuple[FittedOn, Sequence[ConsensusRule]]] = {
        RULE_TITLES[name]: ("train", draws) for name, draws in consensus_rules(k, seed).items()
    }
    return papers | {
        "best learner": ("valid", [TopLearners(1)]),
        "static top-k": ("valid", [TopLearners(k)]),
        "discrete SL": ("valid", [DiscreteSuperLearner()]),
        "greedy selection": ("valid", [GreedySelection()]),
        "logistic stacking": ("train", [LogisticStacking()]),
        "nearest neighbours": ("train", [NearestNeighbours()]),
        "KNORA-U": ("valid", [KnoraUnion()]),
        "KNORA-E": ("valid", [KnoraEliminate()]),
    }


@dataclass(frozen=True)
class Comparison:
    """One run's test accuracies, as fractions.

    Attributes:
        accuracy: by rule, e2e-CEL and the oracle among them.
        against: e2e-CEL minus each rule of one draw.
        curve: Figure 2: by k, and then by rule.
    """

    accuracy: Mapping[str, float]
    against: Mapping[str, Difference]
    curve: Mapping[int, Mapping[str, float]]


def choices(
    train: CachedSplit, valid: CachedSplit, test: CachedSplit, k: int, seed: int
) -> dict[str, Choices]:
    """What every rule chooses for each test sample, (draws, S)."""
    fitted: dict[FittedOn, CachedSplit] = {"train": train, "valid": valid}
    return {
        title: chosen_by(draws, fitted[on], test) for title, (on, draws) in rules(k, seed).items()
    }


def curve_ks(n_learners: int, chosen: int) -> list[int]:
    """The values of k of Figure 2: about evenly spaced on a logarithmic scale, and the chosen."""
    spaced = np.geomspace(1, n_learners, N_CURVE).round().astype(int)
    return sorted({int(k) for k in spaced} | {chosen})


def trained_at_each_k(
    task: TaskRef, best: TrialRecord, ks: Sequence[int], pool: ActorPool, folder: Path
) -> dict[int, dict[str, Tensor]]:
    """A selection net's weights for each k, at the best trial's other hyperparameters.

    One that diverges is left out. What is trained is kept in `folder`, for a later launch.
    """

    def train_at(k: int) -> dict[str, Tensor] | None:
        try:
            record = replace(best, number=k, params=replace(best.params, k=k))
            return refit(task, record, pool, folder)[0]
        except DivergedError as error:
            print(f"k = {k}: {error}")
            return None

    with ThreadPoolExecutor(pool.size) as workers:
        found = dict(zip(ks, workers.map(train_at, ks), strict=True))
    return {k: weights for k, weights in found.items() if weights is not None}


def compare(
    smart_by_k: Mapping[int, Choices],
    chosen_k: int,
    train: CachedSplit,
    valid: CachedSplit,
    test: CachedSplit,
    seed: int,
) -> Comparison:
    """Measure everything on the test split.

    Args:
        smart_by_k: what the smart ensemble chooses at each k of Figure 2.
        chosen_k: the one that the search chose on the valid split.
        train: for the rules.
        valid: for the rules.
        test: that they are measured on.
        seed: of random selection.
    """
    others = choices(train, valid, test, chosen_k, seed)
    right = {title: chosen == test.labels_S for title, chosen in others.items()}
    smart_S = smart_by_k[chosen_k][0] == test.labels_S
    accuracy = {SMART: float(smart_S.mean())}
    accuracy |= {title: float(hits.mean()) for title, hits in right.items()}
    accuracy["oracle"] = oracle_accuracy(test)
    against = {t: difference(smart_S, hits[0]) for t, hits in right.items() if len(hits) == 1}

    def random_draws(k: int) -> Sequence[ConsensusRule]:
        return consensus_rules(k, seed)["random_selection"]

    curve = {
        k: {
            SMART: float((chosen == test.labels_S).mean()),
            "RS": float((chosen_by(random_draws(k), train, test) == test.labels_S).mean()),
            **{title: accuracy[title] for title in ("SL", "UA", "PV")},
        }
        for k, chosen in smart_by_k.items()
    }
    return Comparison(accuracy, against, curve)


def compare_run(prepared: Prepared, pool: ActorPool) -> Comparison:
    """Compare what a finished run chose, on the cluster that Ray is connected to.

    Raises:
        RunFailedError: no trial is complete, or workers died again and again.
    """
    train, valid, test = (prepared.cached(name) for name in SPLIT_NAMES)
    best = best_trial(TrialStore(prepared.search_folder / "trials").snapshot())
    task = SelectionTask(prepared.experiment, prepared.plan, train, valid, prepared.options.seed)
    ref, k = ray.put(task), best.params.k
    weights = {k: refit(ref, best, pool, prepared.search_folder / "refit")[0]}
    others = [other for other in curve_ks(len(prepared.specs), k) if other != k]
    weights |= trained_at_each_k(ref, best, others, pool, prepared.search_folder / "curve")
    smart_by_k = {
        at: smart_choices(
            trained_ensemble(prepared.plan, len(prepared.specs), replace(best.params, k=at), found),
            test,
        )
        for at, found in sorted(weights.items())
    }
    return compare(smart_by_k, k, train, valid, test, prepared.options.seed)
