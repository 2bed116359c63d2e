"""The result to take away: a folder with the smart ensemble and all base learners.

`ensemble.json` has the format's version, the digests of all weights and one of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from distcel.core.ensemble import trained_ensemble
from distcel.core.networks import NetworkPlan
from distcel.experiment.architecture import Architecture, NetworkFunction, OwnArchitecture
from distcel.experiment.errors import InvalidInputError, invalid, require
from distcel.experiment.types import SelectionParams
from distcel.serve.ensemble import Ensemble
from distcel.storage.files import (
    DamagedFileError,
    bytes_digest,
    read_record,
    write_bytes,
    write_record,
)
from distcel.storage.folders import replaced_folder

# Raise it with every change of the folder that an earlier version could not read, or would misread.
FORMAT_VERSION = 1
_FACTS, SMART_FILE = "ensemble.json", "smart_ensemble.safetensors"
Loaded = TypeVar("Loaded")


def save_ensemble(
    folder: Path,
    plan: NetworkPlan,
    params: SelectionParams,
    class_names: tuple[str, ...],
    smart: Mapping[str, Tensor],
    learners: Sequence[tuple[str, Mapping[str, Tensor]]],
    temperature: float = 1.0,
    pruned: Mapping[str, Any] | None = None,
) -> None:
    """Write the folder, in place of an earlier one.

    Args:
        folder: the folder to write.
        plan: how the networks are built.
        params: the trial's point, of which prediction uses k and the vote.
        class_names: names of the C classes.
        smart: weights of the smart ensemble.
        learners: names and weights of the base learners, in the order of the scores.
        temperature: divides the logits of the vote in class probabilities.
        pruned: what `measure_pruned` returned, where only the learners that are `kept` are to be
            written; None writes all.
    """
    kept = pruned["kept"] if pruned else range(len(learners))
    facts = {
        "class_names": class_names,
        "learner_names": [name for name, _ in learners],
        "params": params.as_dict(),
        "temperature": temperature,
        "pruned": pruned,
        **plan_facts(plan),
    }
    files = {SMART_FILE: smart} | {_learner_file(i): learners[i][1] for i in kept}
    write_folder(folder, facts, files)


def write_folder(
    folder: Path, facts: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write these facts and files of weights with their digests, in place of an earlier folder."""
    digests = {}
    with replaced_folder(folder) as new:
        for name, weights in files.items():
            content = save({key: value.contiguous() for key, value in weights.items()})
            write_bytes(new / name, content)
            digests[name] = bytes_digest(content)
        write_record(new / _FACTS, {"format_version": FORMAT_VERSION, **facts, "digests": digests})


def plan_facts(plan: NetworkPlan) -> dict[str, Any]:
    """What a folder says of a plan; `read_plan` builds it anew."""
    return {
        "architecture": plan.architecture.description(),
        "image_shape": plan.image_shape,
        "mean": plan.mean,
        "std": plan.std,
    }


def read_plan(facts: Mapping[str, Any], function: NetworkFunction | None) -> NetworkPlan:
    """The plan of these facts.

    Raises:
        InvalidInputError: the user's own function built the networks, and it is missing.
    """
    return NetworkPlan(
        _architecture(facts["architecture"], function),
        tuple(facts["image_shape"]),
        tuple(facts["mean"]),
        tuple(facts["std"]),
    )


def read_weights(folder: Path, facts: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The weights of one file of the folder.

    Raises:
        DamagedFileError: they have changed since.
    """
    content = (folder / name).read_bytes()
    if bytes_digest(content) != facts["digests"][name]:
        raise DamagedFileError(folder / name, f"{name} does not match its digest")
    return load(content)


def _learner_file(index: int) -> str:
    return f"learners/{index:04d}.safetensors"


def load_ensemble(folder: str | Path, architecture: NetworkFunction | None = None) -> Ensemble:
    """Load the ensemble that `save_ensemble` wrote; it runs on the CPU until it is moved.

    Args:
        folder: the `ensemble` folder of a run directory, a copy of it, or the run directory.
        architecture: the function that built the networks, where it was the user's own.

    Raises:
        InvalidInputError: the folder has no ensemble, a damaged one or one of another version, or
            the function is missing.
    """
    return loaded(folder, lambda found: _load(found, architecture))


def loaded(folder: str | Path, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of an ensemble's folder, or of the one in a run directory.

    Raises:
        InvalidInputError: the folder has no ensemble, a damaged one or one of another version.
    """
    given = Path(folder)
    found = [path for path in (given, given / "ensemble") if (path / _FACTS).is_file()]
    rule = f"a folder with {_FACTS}, or a run directory whose ensemble/ has it"
    remedy = "give the run directory of a search that is finished"
    require(bool(found), rule, str(given), remedy)
    try:
        return load(found[0])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = error.why if isinstance(error, DamagedFileError) else str(error)
        reason = " ".join(f"{type(error).__name__}: {reason}".split())[:200]
        rule = "an ensemble as it was saved"
        remedy = "copy it again, or repeat the command that made it"
        raise invalid(rule, f"{str(found[0])!r} ({reason})", remedy) from None


def _architecture(
    facts: Mapping[str, Any], function: NetworkFunction | None
) -> Architecture | OwnArchitecture:
    if "function" not in facts:
        return Architecture(facts["family"], tuple(facts["channels"]))
    # Not imported by its name: a folder from elsewhere would then choose what code runs here.
    rule = f"the function {facts['function']} that built the networks"
    remedy = "give load_ensemble(folder, architecture=...) or load_run(run_dir, experiment=...)"
    require(function is not None, rule, None, remedy)
    assert function is not None, "just checked"
    return OwnArchitecture(function, facts["version"])


def _load(folder: Path, function: NetworkFunction | None) -> Ensemble:
    facts = read_facts(folder)
    rule = "an ensemble with base learners of its own"
    remedy = "give load_selector(folder), or predict --predictions: they combine answers"
    require("selection" not in facts, rule, "one of given predictors", remedy)
    plan = read_plan(facts, function)
    class_names, names = tuple(facts["class_names"]), tuple(facts["learner_names"])

    def learner(index: int) -> nn.Module:
        built = plan.build(len(class_names), seed=0)
        built.load_state_dict(read_weights(folder, facts, _learner_file(index)))
        return built

    params = SelectionParams.from_dict(facts["params"])
    weights = read_weights(folder, facts, SMART_FILE)
    smart = trained_ensemble(plan, len(names), len(class_names), params, weights)
    pruned = facts.get("pruned")
    kept = pruned["kept"] if pruned else range(len(names))
    learners, kept_names = [learner(i) for i in kept], tuple(names[i] for i in kept)
    temperature = float(facts["temperature"])
    return Ensemble(smart, learners, class_names, kept_names, plan, temperature, kept)


def read_facts(folder: Path) -> dict[str, Any]:
    """The content of `ensemble.json`.

    Raises:
        DamagedFileError: it has changed since.
        InvalidInputError: it is of another version of the format.
    """
    facts = read_record(folder / _FACTS)
    found = facts.get("format_version")
    remedy = "use the version of distcel that made it, or repeat its command with this one"
    require(found == FORMAT_VERSION, f"an ensemble of format {FORMAT_VERSION}", found, remedy)
    return facts
