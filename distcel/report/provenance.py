"""The last parts of a page: time by stage, configuration, versions, and how to get it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from distcel.experiment.loading import ARRAYS
from distcel.report import charts
from distcel.report.frame import (
    Results,
    launches,
    seconds_of_all,
    seed_titles,
    text_frame,
)
from distcel.report.parts import Chart, Commands, Part, Table
from distcel.search.options import OWN_PRESET, run_name

_CONFIGURATION = (
    *("dataset", "preset", "seed", "selector_split", "fixed", "precision", "n_learners"),
    *("n_classes", "n_samples", "first", "best", "n_trials", "test_readings", "machine", "ended"),
    *("commit", "source_digest"),
)


def of_launch(results: Results, details: Results) -> list[Part]:
    """The last parts of the page of a launch, whose `results.json` and `details.json` these are."""
    chosen = _configuration([results])
    chosen |= {f"space of {name}": [_ends(text)] for name, text in details["space"].items()}
    again = "To get it again"
    if results["dataset"] != "digits":
        again += ": DATA is the folder of the data set"
    return [
        _time("of the trainings, each on its own worker", results["seconds"]),
        Table("Configuration", text_frame(chosen, ["value"], "what")),
        Table("Versions", text_frame(_versions([results]), ["version"], "package")),
        Commands(again, commands(results, details)),
    ]


def of_reproduction(results: Results) -> list[Part]:
    """The last parts of the page of a reproduction, a column a seed, but for the notes."""
    found, seeds = launches(results), seed_titles(results)
    folders = [
        f"runs/{run_name(x['dataset'], x['preset'], x['selector_split'])}-seed{x['seed']}"
        for x in found
    ]
    own = "Each seed's page: its search, who is selected, what is confused, how sure it is"
    return [
        _time("of the trainings of all seeds, each on its own worker", seconds_of_all(results)),
        Table("Configuration", text_frame(_configuration(found), seeds, "what")),
        Table("Versions", text_frame(_versions(found), seeds, "package")),
        Commands(own, [f"distcel report {folder} --open" for folder in folders]),
        Commands("To get it again", [results["command"]]),
    ]


def _time(what: str, seconds: Mapping[str, float]) -> Chart:
    spent = {name: value for name, value in seconds.items() if value}
    rows = {name.replace("_", " "): [f"{value:.1f}"] for name, value in spent.items()}
    figure, numbers = charts.seconds_by_stage(spent), text_frame(rows, ["s"], "stage")
    return Chart(f"Time by stage: {what}", figure, "bar chart", numbers)


def _configuration(found: Sequence[Results]) -> dict[str, list[str]]:
    return {
        name.replace("_", " "): [_shown(launch.get(name)) for launch in found]
        for name in _CONFIGURATION
    }


def _versions(found: Sequence[Results]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for launch in found for name in launch["versions"])
    return {name: [launch["versions"].get(name, "-") for launch in found] for name in names}


def commands(results: Results, details: Results) -> list[str]:
    """The commands that repeat a launch; DATA stands for the folder of the data set."""
    commit = results["commit"]
    clean, _, changed = (commit or "").partition(", ")
    noted = "  # with changes that were not committed" if changed else ""
    lines = [f"git checkout {clean}{noted}"] if clean else []
    if results["preset"] == OWN_PRESET:
        return [*lines, f"distcel.fit(experiment, seed={results['seed']})  # in Python"]
    if results["dataset"] == ARRAYS:
        own = f"preset={results['preset']!r}, seed={results['seed']}"
        return [*lines, f"distcel.fit(X=X, y=y, {own})  # in Python"]
    if "predictors" in results:
        return [*lines, _select_command(results, details)]
    words = ["distcel", "search", "--dataset", results["dataset"], "--preset", results["preset"]]
    if results["dataset"] != "digits":
        words += ["--data-dir", "DATA"]
    words += ["--seed", str(results["seed"]), "--num-samples", str(details["num_samples"])]
    if results["selector_split"] != "train":
        words += ["--selector-split", results["selector_split"]]
    if details["imagenet_weights"] != "published":
        words += ["--imagenet-weights", details["imagenet_weights"]]
    for name, value in results["fixed"].items():
        words += ["--fix", f"{name}={value}"]
    words += ["--prune"] if results.get("pruned") else []
    return [*lines, shlex.join(words)]


def _select_command(results: Results, details: Results) -> str:
    """The command of a selection; DIR and the other words in capitals stand for the user's."""
    words = ["distcel", "select", "--predictions", "DIR", "--truth", "TRUTH"]
    words += ["--features", "FEATURES"] if results["sees_features"] else []
    for found in results["predictors"]:
        words += ["--always", found["name"]] if found["always"] else []
    words += ["--prices", "PRICES"] if results["price"] is not None else []
    words += ["--budget", f"{results['budget']:g}"] if results["budget"] is not None else []
    words += ["--seed", str(results["seed"]), "--num-samples", str(details["num_samples"])]
    for name, value in results["fixed"].items():
        words += ["--fix", f"{name}={value}"]
    return shlex.join(words)


def _ends(distribution: str) -> str:
    """The ends or the choices of a distribution, which Optuna's JSON describes."""
    found = json.loads(distribution)["attributes"]
    if "choices" in found:
        return ", ".join(map(str, found["choices"]))
    scale = ", on a logarithmic scale" if found["log"] else ""
    return f"{found['low']} to {found['high']}{scale}"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        values = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in value.values())
        return ", ".join(f"{name} {x}" for name, x in zip(value, values, strict=True)) or "none"
    return "unknown" if value is None else str(value)
