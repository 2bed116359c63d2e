"""What the paper's evaluation asks of a finished run, and what a reviewer would ask next.

Every rule votes on the same cached predictions of the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import ray

from distcel.actor_pool import ActorPool
from distcel.consensus import Draws, consensus_rules, right, said_by
from distcel.cost import MultiplyAdds, multiply_adds
from distcel.estimate import SampleCounts, count_samples
from distcel.gradient_study import EstimatorRun, GradientStudy, study_gradients
from distcel.learned_vote import LEARNED_VOTE, FoundVote, search_learned_vote, third_of
from distcel.measures import SMART, Measures, measure
from distcel.predictions import CachedSplit
from distcel.prepare import Prepared
from distcel.refit import SmartRule, refit
from distcel.rules import said_by_rules
from distcel.selection import SelectionTask
from distcel.slices import slices
from distcel.trained_rules import TrainedRule, rules_beyond, trained_rule, trained_rules
from distcel.trials import TrialStore, best_trial
from distcel.types import SPLIT_NAMES, SelectionParams, TrialRecord

N_CURVE = 7  # values of k in Figure 2, spaced logarithmically; others are added


@dataclass(frozen=True)
class Comparison:
    """One run on the test split.

    Attributes:
        measures: of every rule.
        curve: Figure 2: accuracies as fractions, by k, and then by rule.
        valid_curve: e2e-CEL's on the valid split, by k.
        cost: of an image.
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
    trained: Mapping[str, TrainedRule] = field(default_factory=dict)
    learned_vote: TrialRecord | None = None
    gradients: GradientStudy | None = None
    diverged: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def curve_ks(n_learners: int, chosen: int) -> list[int]:
    """The values of k of Figure 2: spaced logarithmically, a third of all, and the chosen."""
    spaced = np.geomspace(1, n_learners, N_CURVE).round().astype(int)
    return sorted({int(k) for k in spaced} | {third_of(n_learners), chosen})


def smart_rules(params: SelectionParams, ks: Sequence[int]) -> dict[str, SmartRule]:
    """The smart ensemble at each k and the other parameters of the best trial, by title."""
    return {_title_at(k): SmartRule(replace(params, k=k)) for k in ks}


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
        return accuracy(said_by(consensus_rules(k, seed)["random_selection"], train, test))

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
    """What a comparison trains: e2e-CEL at each k, its rivals, and what diverged of both."""

    over_k: Mapping[int, TrainedRule]
    rivals: Mapping[str, TrainedRule]
    learned_vote: FoundVote | None
    gradients: GradientStudy | None
    diverged: Sequence[str]
    seconds: Mapping[str, float]


def _train(
    prepared: Prepared,
    task: SelectionTask,
    best: TrialRecord,
    test: CachedSplit,
    pool: ActorPool,
    beyond: bool,
    gradients: bool,
) -> _Trained:
    ref, k, folder = ray.put(task), best.params.k, prepared.search_folder
    network, _ = refit(ref, best, pool, folder / "refit")
    learned = search_learned_vote(prepared, ref, pool) if beyond else None
    ks = curve_ks(len(prepared.specs), k)
    wanted = rules_beyond(task, best.params, _sample_counts(prepared)) if beyond else {}
    wanted |= smart_rules(best.params, [other for other in ks if other != k])
    # Some choose their best epoch on valid: the test split is measured from here on.
    rivals = trained_rules(wanted, task, ref, test, pool, folder / "rules")
    diverged = [title for title in wanted if title not in rivals]
    diverged += [LEARNED_VOTE] if beyond and learned is None else []
    over_k = {other: rivals.pop(title) for other in ks if (title := _title_at(other)) in rivals}
    study_folder = folder / "gradients"
    study = study_gradients(task, ref, best, test, pool, study_folder) if gradients else None
    seconds = {
        "Figure 2": _seconds(over_k.values()),  # the chosen k's is the refit's
        LEARNED_VOTE: learned.seconds if learned else 0.0,
        "other trained rules": _seconds(rivals.values()),
        "gradients": _seconds(study.runs) if study else 0.0,
    }
    over_k[k] = trained_rule(SmartRule(best.params), network, task, test)
    return _Trained(dict(sorted(over_k.items())), rivals, learned, study, diverged, seconds)


def _seconds(trained: Iterable[TrainedRule] | Iterable[EstimatorRun]) -> float:
    return sum(training.seconds for training in trained)


def compare_run(prepared: Prepared, pool: ActorPool, beyond: bool, gradients: bool) -> Comparison:
    """Compare what a finished run chose, on the cluster that Ray is connected to.

    Args:
        prepared: the run.
        pool: the workers.
        beyond: also train the rules that the paper does not have.
        gradients: also train the best trial with each gradient.

    Raises:
        RunFailedError: no trial is complete, or workers died again and again.
    """
    train, valid, test = (prepared.cached(name) for name in SPLIT_NAMES)
    best = best_trial(TrialStore(prepared.search_folder / "trials").snapshot())
    seed, names = prepared.options.seed, prepared.splits.class_names
    task = SelectionTask(prepared.experiment, prepared.plan, train, valid, seed)
    trained = _train(prepared, task, best, test, pool, beyond, gradients)
    smart_by_k = {k: rule.probs_SC[None] for k, rule in trained.over_k.items()}
    said = {SMART: smart_by_k[best.params.k]}
    said |= said_by_rules(train, valid, test, best.params.k, seed)
    said |= {title: rule.probs_SC[None] for title, rule in trained.rivals.items()}
    if learned := trained.learned_vote:
        rule = trained_rule(SmartRule(learned.trial.params), learned.network, task, test)
        said[LEARNED_VOTE] = rule.probs_SC[None]
    sliced = slices(prepared.experiment.dataset, prepared.splits["test"].sample_ids.to_pylist())
    leaders = [title for title in (SMART, LEARNED_VOTE) if title in said]
    return Comparison(
        measure(said, test, names, sliced, leaders),
        accuracy_over_k(smart_by_k, said, train, test, seed),
        {k: rule.valid_accuracy for k, rule in trained.over_k.items()},
        multiply_adds(prepared.plan, len(prepared.specs), len(names)),
        trained.rivals,
        learned.trial if learned else None,
        trained.gradients,
        trained.diverged,
        trained.seconds,
    )
