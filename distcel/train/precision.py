"""The precision that networks are trained in where a recipe leaves it to the machine.

By the measurements of `benchmarks/precision.py`, bfloat16 is faster where the processor has
instructions for it and the convolutions are wide enough; narrow ones gain nothing, and depthwise
ones lose.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.types import Experiment, Precision, Recipe

# Names of `torch.cpu.get_capabilities`, which is public and has no entry for what a processor of
# another kind does not know. What oneDNN calls supported includes emulation, which gains nothing.
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
_WIDE = 32  # channels of the widest convolution


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with float32 or bfloat16 in place of `auto`, by what this machine has.

    The driver resolves it once, before any key is made. Workers train in what it chose: without
    such instructions they compute the same more slowly.
    """
    found = choose_precision(experiment.network, bfloat16_hardware())

    def of(recipe: Recipe) -> Recipe:
        return replace(recipe, precision=found) if recipe.precision == "auto" else recipe

    learner_recipe, selector_recipe = of(experiment.learner_recipe), of(experiment.selector_recipe)
    return replace(experiment, learner_recipe=learner_recipe, selector_recipe=selector_recipe)


def choose_precision(
    architecture: Architecture | OwnArchitecture, hardware: str | None
) -> Precision:
    """What `auto` stands for: float32 unless the networks are known to gain from bfloat16.

    Args:
        architecture: of all networks; a function of the user's may build anything.
        hardware: what computes in bfloat16, as `bfloat16_hardware` gives it.
    """
    if hardware is None or isinstance(architecture, OwnArchitecture):
        return "float32"
    wide = architecture.family == "resnet18" or max(architecture.channels) >= _WIDE
    return "bfloat16" if wide else "float32"


def bfloat16_hardware() -> str | None:
    """What computes in bfloat16 here: the GPU, or where there is none the CPU's instructions."""
    if torch.cuda.is_available():
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.cuda.get_device_name() if has_it else None
    found = torch.cpu.get_capabilities()
    return next((title for name, title in _INSTRUCTIONS.items() if found.get(name)), None)


def describe_precision(experiment: Experiment) -> str:
    """One line for the log: what base learners and selection net are trained in, and by what."""
    learner, selector = experiment.learner_recipe, experiment.selector_recipe
    line = f"trained in {learner.precision}: base learners"
    if selector.precision == learner.precision:
        line += " and selection net"
    else:
        line += f"; in {selector.precision}: selection net"
    if learner.in_bfloat16 or selector.in_bfloat16:
        line += f"; bfloat16 by {bfloat16_hardware() or 'emulation, which is slow'}"
    return line
