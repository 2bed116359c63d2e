"""What the paper's evaluation asks of a finished run, and what a reviewer would ask next.

Every rule votes on the same cached predictions of the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from distcel.core.cost import MultiplyAdds, multiply_adds
from distcel.evaluate.gradients import GradientStudy, study_gradients
from distcel.evaluate.measures import SMART, Measures, measure
from distcel.evaluate.slices import slices
from distcel.execute.jobs import Executor
from distcel.experiment.space import few_lrs
from distcel.experiment.types import SelectionParams
from distcel.rules.consensus import Draws, random_selections, right, said_by
from distcel.rules.learned_vote import LEARNED_VOTE, FoundVote, search_learned_vote, third_of
from distcel.rules.registry import said_by_rules
from distcel.rules.trained import (
    BRIEF_SINGLE,
    EQ_7,
    Chosen,
    RulesByLr,
    TrainedRule,
    best_on_valid,
    brief_single,
    rules_beyond,
    smart_by_eq_7,
    trained_rule,
)
from distcel.search.prepare import Prepared
from distcel.search.refit import SmartRule, refit_best
from distcel.search.trials import TrialRecord, TrialStore, best_trial, first_params
from distcel.train.cache import CachedSplit
from distcel.train.estimate import SampleCounts, count_samples
from distcel.train.selection import SelectionTask

N_CURVE = 7  # values of k in Figure 2, spaced logarithmically; others are added


@dataclass(frozen=True)
class Comparison:
    """One run on the test split.

    Attributes:
        measures: of every rule.
        curve: Figure 2: accuracies as fractions, by k, and then by rule.
        valid_curve: e2e-CEL's on the valid split, by k.
        cost: of an image.
        settings: what rules chose on the valid split, as `rules.said_by_rules` gives it.
        trained: the rules that were trained for the comparison, if any.
        learned_vote: the best trial of the learned vote of few, if it was searched.
        gradients: side by side, if they were.
        diverged: what was trained in vain, by title.
        seconds: what the trainings for it took on their workers, by what they were for.
    """

    measures: Measures
    curve: Mapping[int, Mapping[str, float]]
    valid_curve: Mapping[int, float]
    cost: MultiplyAdds
    settings: Mapping[str, float] = field(default_factory=dict)
    trained: Mapping[str, TrainedRule] = field(default_factory=dict)
    learned_vote: TrialRecord | None = None
    gradients: GradientStudy | None = None
    diverged: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def curve_ks(n_learners: int, chosen: int) -> list[int]:
    """The values of k of Figure 2: spaced logarithmically, a third of all, and the chosen."""
    spaced = np.geomspace(1, n_learners, N_CURVE).round().astype(int)
    return sorted({int(k) for k in spaced} | {third_of(n_learners), chosen})


def smart_rules(params: SelectionParams, ks: Sequence[int]) -> dict[str, RulesByLr]:
    """The smart ensemble at each k and the other parameters of the best trial, by title."""
    return {_title_at(k): {params.lr: SmartRule(replace(params, k=k))} for k in ks}


def _title_at(k: int) -> str:
    return f"{SMART}, k = {k}"


def accuracy_over_k(
    smart_by_k: Mapping[int, Draws],
    said: Mapping[str, Draws],
    train: CachedSplit,
    test: CachedSplit,
    seed: int,
) -> dict[int, dict[str, float]]:
    """Figure 2: accuracies by k, and then by rule.

    Args:
        smart_by_k: the smart ensemble's class probabilities at each k.
        said: every rule's; those that know no k are the same at each.
        train: for random selection.
        test: the samples.
        seed: of random selection.
    """

    def accuracy(draws: Draws) -> float:
        return float(right(draws, test.labels_S).mean())

    def random(k: int) -> float:
        return accuracy(said_by(random_selections(k, seed), train, test))

    constant = {title: accuracy(said[title]) for title in ("SL", "UA", "PV")}
    return {
        k: {SMART: accuracy(smart), "RS": random(k), **constant} for k, smart in smart_by_k.items()
    }


def _sample_counts(prepared: Prepared) -> SampleCounts:
    """What the ensemble was trained on, copies included; of a run without a holdout."""
    labels_S, options = prepared.splits["train"].labels, prepared.options
    split, seed = options.selector_split, options.seed
    return count_samples(labels_S, prepared.specs, prepared.experiment, split, seed)


@dataclass(frozen=True)
class _Trained:
    """What a comparison trains: e2e-CEL at each k and its rivals, and what diverged of both."""

    over_k: Mapping[int, Chosen]
    rivals: Mapping[str, Chosen]
    learned_vote: FoundVote | None
    diverged: Sequence[str]


def _train(
    prepared: Prepared, shared: Any, best: TrialRecord, first: SelectionParams, executor: Executor
) -> _Trained:
    """What every comparison trains; the best trial's own network is kept by its refit."""
    folder, k = prepared.search_folder, best.params.k
    store = TrialStore(folder / "trials")
    network, _ = refit_best(shared, store, executor, folder / "refit")
    ks = [other for other in curve_ks(len(prepared.specs), k) if other != k]
    wanted = smart_by_eq_7(first, _lrs(prepared, best))
    wanted |= smart_rules(best.params, ks)
    found = best_on_valid(wanted, shared, executor, folder / "rules")
    over_k = {other: found[title] for other in ks if (title := _title_at(other)) in found}
    over_k[k] = Chosen(SmartRule(best.params), network, best.params.lr, network.seconds)
    rivals = {EQ_7: found[EQ_7]} if EQ_7 in found else {}
    diverged = [title for title in wanted if title not in found]
    return _Trained(dict(sorted(over_k.items())), rivals, None, diverged)


def _train_beyond(
    trained: _Trained, prepared: Prepared, shared: Any, best: TrialRecord, executor: Executor
) -> _Trained:
    """What the paper does not have, beside what is trained already."""
    folder, lrs = prepared.search_folder / "rules", _lrs(prepared, best)
    learned = search_learned_vote(prepared, shared, executor)
    brief = brief_single(prepared.experiment, lrs)
    found = best_on_valid(brief, shared, executor, folder)
    single_lr = found[BRIEF_SINGLE].lr if BRIEF_SINGLE in found else best.params.lr
    counts = _sample_counts(prepared)
    further = rules_beyond(prepared.experiment, best.params, counts, lrs, single_lr)
    found |= best_on_valid(further, shared, executor, folder)
    diverged = [title for title in [*further, *brief] if title not in found]
    diverged += [LEARNED_VOTE] if learned is None else []
    rivals = {title: found[title] for title in [*further, *brief] if title in found}
    return replace(
        trained,
        rivals={**trained.rivals, **rivals},
        learned_vote=learned,
        diverged=[*trained.diverged, *diverged],
    )


def _lrs(prepared: Prepared, best: TrialRecord) -> tuple[float, ...]:
    return few_lrs(prepared.search.space["lr"], best.params.lr)


def _seconds(trained: _Trained, study: GradientStudy | None, refitted: int) -> dict[str, float]:
    """That the trainings took on their workers; that of the refit's k is counted as the refit."""
    learned = trained.learned_vote
    return {
        "Figure 2": sum(one.seconds for k, one in trained.over_k.items() if k != refitted),
        LEARNED_VOTE: learned.seconds if learned else 0.0,
        "other trained rules": sum(chosen.seconds for chosen in trained.rivals.values()),
        "gradients": sum(run.seconds for run in study.runs) if study else 0.0,
    }


def compare_run(
    prepared: Prepared, executor: Executor, beyond: bool, gradients: bool
) -> Comparison:
    """Compare what a finished run chose with every rival.

    Args:
        prepared: the run.
        executor: the workers.
        beyond: also train the rules that the paper does not have.
        gradients: also train the best trial with each gradient.

    Raises:
        RunFailedError: no trial is complete, or workers died again and again.
    """
    train, valid = prepared.cached("train"), prepared.cached("valid")
    records = TrialStore(prepared.search_folder / "trials").snapshot()
    best, first = best_trial(records), first_params(records, prepared.search.first)
    task = SelectionTask(prepared.experiment, prepared.plan, train, valid, prepared.options.seed)
    shared = executor.share(task)
    trained = _train(prepared, shared, best, first, executor)
    if beyond:
        trained = _train_beyond(trained, prepared, shared, best, executor)
    test = prepared.cached("test")  # read once what is compared is trained and chosen
    folder = prepared.search_folder / "gradients"
    study = study_gradients(task, shared, best, test, executor, folder) if gradients else None
    return _measured(prepared, task, test, best, trained, study)


def _measured(
    prepared: Prepared,
    task: SelectionTask,
    test: CachedSplit,
    best: TrialRecord,
    trained: _Trained,
    study: GradientStudy | None,
) -> Comparison:
    seed, names = task.seed, prepared.splits.class_names
    over_k = {k: trained_rule(chosen, task, test) for k, chosen in trained.over_k.items()}
    rivals = {title: trained_rule(chosen, task, test) for title, chosen in trained.rivals.items()}
    smart_by_k = {k: rule.probs_SC[None] for k, rule in over_k.items()}
    by_rules, settings = said_by_rules(
        task.train, task.valid, test, best.params.k, seed, prepared.options.selector_split
    )
    said = {SMART: smart_by_k[best.params.k], **by_rules}
    said |= {title: rule.probs_SC[None] for title, rule in rivals.items()}
    if learned := trained.learned_vote:
        said[LEARNED_VOTE] = learned.predict(task, test).numpy()[None]
    sliced = slices(prepared.experiment.dataset, prepared.splits["test"].sample_ids.to_pylist())
    leaders = [title for title in (SMART, LEARNED_VOTE) if title in said]
    return Comparison(
        measure(said, test, names, sliced, leaders),
        accuracy_over_k(smart_by_k, said, task.train, test, seed),
        {k: rule.valid_accuracy for k, rule in over_k.items()},
        multiply_adds(prepared.plan, len(prepared.specs), len(names)),
        settings,
        rivals,
        learned.trial if learned else None,
        study,
        trained.diverged,
        _seconds(trained, study, best.params.k),
    )
