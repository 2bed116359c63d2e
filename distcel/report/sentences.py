"""Sentences of a report: the result, and how it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from distcel.report.claims import ALONE, SMART, gain_from_learners, t_interval
from distcel.report.frame import (
    Results,
    accuracies,
    comparisons,
    launches,
    mean_and_deviation,
    rule_titles,
    seconds_of_all,
)
from distcel.report.pareto import best_k


def launch_result(results: Results) -> str:
    """The result of a launch in a sentence."""
    found, n_learners = results["accuracy"], results["n_learners"]
    if "predictors" in results:
        return _selection_result(results)
    text = (
        f"e2e-CEL classifies {percent(found[SMART])} of the {results['n_samples']['test']} test "
        f"images correctly; for each of them it selects {results['best']['k']} of {n_learners} "
        f"base learners. The unweighted average of all reaches "
        f"{percent(found['unweighted_average'])}"
    )
    paper = results["paper"]
    return f"{text}; the paper reports {percent(paper[SMART])} of e2e-CEL." if paper else f"{text}."


def _selection_result(results: Results) -> str:
    """The result of a selection among given predictors in a sentence."""
    predictors, found = results["predictors"], results["accuracy"]
    n_asked = sum(predictor["asked"] for predictor in predictors)
    best = max(predictors, key=lambda predictor: predictor["accuracy"])
    price = "" if results["price"] is None else f", at a mean price of {results['price']:.4g}"
    return (
        f"e2e-CEL classifies {percent(found[SMART])} of the {results['n_samples']['test']} test "
        f"samples correctly; on average it asks {n_asked:.3g} of {len(predictors)} predictors for "
        f"one{price}. Those asked at random as often reach {percent(found['shuffled_selection'])}; "
        f"{best['name']}, the most accurate on test, reaches "
        f"{percent(best['accuracy'])} by itself, the unweighted average of all "
        f"{percent(found['unweighted_average'])}."
    )


def pruned(results: Results) -> str:
    """What pruning has left out of `ensemble/`, and what it changes; empty where nothing is."""
    found = results.get("pruned")
    if not found:
        return ""
    n_kept, n, n_changed = len(found["kept"]), found["n_learners"], found["n_changed"]
    smart = results["accuracy"][SMART]
    return (
        f"Pruned: `ensemble/` has {n_kept} of {n} base learners, those that are selected for at "
        f"least one sample of valid at k = {found['k']}. For {n_changed} of the {found['n_test']} "
        "test samples it selects the next best of these in place of others; it classifies "
        f"{percent(found['accuracy'])} of test correctly, and {percent(smart)} with all learners."
    )


def reproduction_result(results: Results) -> str:
    """The result of a reproduction in a sentence, with intervals over the seeds."""
    found, titles, n_seeds = accuracies(results), rule_titles(results), len(launches(results))
    reached = t_interval(list(found.loc[SMART]))
    seeds = f"{n_seeds} seeds" if n_seeds > 1 else "one seed"
    text = f"Over {seeds}, {titles[SMART]} classifies {reached} % of the test images correctly"
    gain = gain_from_learners(results)
    if gain:
        text += f"; the gain from the learners is {gain.lead.text('+')} percentage points"
        if ALONE in titles:
            text += f", and {titles[ALONE]} has {t_interval(list(found.loc[ALONE]))} %"
    brackets = " In brackets: the 95 % t-interval over the seeds." if n_seeds > 1 else ""
    return f"{text}.{brackets}"


def sizes(found: Sequence[Results]) -> str:
    """The splits' sizes, as a sentence; they differ by seed where the duplicates left out do."""
    sizes = [launch["n_samples"] for launch in found]
    counts = {name: dict.fromkeys(str(by_name[name]) for by_name in sizes) for name in sizes[0]}
    named = [f"{' or '.join(different)} {name}" for name, different in counts.items()]
    return f"Samples: {', '.join(named)}. "


def duplicates(counts: Sequence[int]) -> str:
    """A sentence with each seed's number of duplicates that are left out; empty if none are."""
    if not any(counts):
        return ""
    left_out = ", ".join(map(str, counts))
    return f"Left out of train and valid, their image occurring twice or in test: {left_out}. "


def added_after_test(read_after: dict[str, Sequence[int]]) -> str:
    """A sentence about trials that were added once the test split had been read; empty if none.

    Args:
        read_after: for each run, by name, how many trials had ended at each reading of the split.
    """
    added = {name: counts[:-1] for name, counts in read_after.items() if counts[:-1]}
    if not added:
        return ""
    readings = "; ".join(f"{name} after {', '.join(map(str, n))}" for name, n in added.items())
    return f"Trials were added when the test split had been read: {readings}. "


def readings(measured: Sequence[Results]) -> str:
    """A sentence about how often the test split was read; empty where no ledger was kept."""
    counts = [found["test_readings"] for found in measured if "test_readings" in found]
    if not counts:
        return ""
    times = "once" if max(counts) == 1 else f"{max(counts)} times"
    return f"The test split has been read {times} by the runs in this folder, by their ledger. "


def searches(found: Sequence[Results]) -> str:
    """How many trials the searches had, and their first trial's point, as a sentence."""
    trials = ", ".join(str(launch["n_trials"]) for launch in found)
    point = ", ".join(f"{name} = {value}" for name, value in found[0]["first"].items())
    return f"Trials of each seed's search: {trials}, the first at {point}."


def diverged(results: Results) -> str:
    """A sentence about the rules left out because they diverged in some seed; empty if none."""
    seeds: dict[str, list[str]] = {}
    for launch, comparison in zip(launches(results), comparisons(results), strict=True):
        for name in comparison["diverged"]:
            seeds.setdefault(name, []).append(str(launch["seed"]))
    if not seeds:
        return ""
    names = "; ".join(f"{name} (seed {', '.join(numbers)})" for name, numbers in seeds.items())
    return f"Diverged, and so left out of the tables and Figure 2: {names}."


def chosen_otherwise(results: Results) -> str:
    """What choosing k on valid, or on test, would have given; a paragraph."""
    smart = rule_titles(results)[SMART]

    def found(on_test: bool) -> str:
        best = best_k(results, on_test)
        reached = mean_and_deviation(accuracy for _, accuracy in best)
        return f"{', '.join(str(k) for k, _ in best)}, and {smart} {reached}"

    return (
        "Epsilon, m, lr and gradient are those that each seed's search found with its own k, and "
        "the same for all other k. Had k been chosen among these and the searched one, each seed's "
        f"on its valid split, it would have been {found(False)} on test. Had it been chosen on the "
        f"test split, as the authors' code does, it would have been {found(True)}: the highest "
        "point of each curve, not a result."
    )


def times(results: Results) -> str:
    """The minutes that all trainings took, in whichever launch they ran, as a sentence."""
    total = seconds_of_all(results)
    parts = [f"{what.replace('_', ' ')} {s / 60:.1f}" for what, s in total.items() if s]
    return (
        f"The trainings of all seeds took {total.total() / 60:.1f} minutes of one worker, without "
        f"the epochs that were lost to interruptions or diverged: {', '.join(parts)}."
    )


def provenance(results: Results) -> str:
    """Where and when the first seed was launched, and the commits of all seeds' code."""
    found = launches(results)
    first = found[0]
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    commits = dict.fromkeys(str(launch["commit"] or "unknown") for launch in found)
    return (
        f"Seed {first['seed']} was last launched on {first['machine']} and ended at "
        f"{first['ended']}. {versions}; commit {' and '.join(commits)}."
    )


def percent(fraction: float) -> str:
    """The fraction in percent, with its sign."""
    return f"{100 * fraction:.2f} %"
