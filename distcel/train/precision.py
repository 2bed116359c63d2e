"""The precision that networks are trained in where a recipe leaves it to the machine.

By the measurements of `benchmarks/precision.py`, bfloat16 is faster where the processor has
instructions for it and the convolutions are wide enough; narrow ones gain nothing, and depthwise
ones lose.
"""

from __future__ import annotations

from dataclasses import replace

from distcel.experiment.architecture import Architecture, OwnArchitecture
from distcel.experiment.types import Experiment, Precision, Recipe
from distcel.storage.provenance import bfloat16_hardware

_WIDE = 32  # least number of channels of the widest convolution


def resolved(experiment: Experiment) -> Experiment:
    """The experiment with float32 or bfloat16 in place of `auto`, as this machine supports it.

    The driver resolves it once, before any key is made. Workers train in the precision that it
    chose; without bfloat16 instructions they compute the same more slowly.
    """
    found = choose_precision(experiment.network, bfloat16_hardware())

    def with_precision(recipe: Recipe) -> Recipe:
        return replace(recipe, precision=found) if recipe.precision == "auto" else recipe

    return replace(
        experiment,
        learner_recipe=with_precision(experiment.learner_recipe),
        selector_recipe=with_precision(experiment.selector_recipe),
    )


def choose_precision(
    architecture: Architecture | OwnArchitecture, hardware: str | None
) -> Precision:
    """The precision of `auto`: float32 unless the networks are known to gain from bfloat16.

    Args:
        architecture: the architecture of all networks; a user's function gets float32.
        hardware: the hardware with bfloat16, as `bfloat16_hardware` returns it.
    """
    if hardware is None or isinstance(architecture, OwnArchitecture):
        return "float32"
    wide = architecture.family == "resnet18" or max(architecture.channels, default=0) >= _WIDE
    return "bfloat16" if wide else "float32"


def describe_precision(experiment: Experiment) -> str:
    """One line for the log: the precisions of the trainings, and the hardware with bfloat16."""
    learner, selector = experiment.learner_recipe, experiment.selector_recipe
    line = f"trained in {learner.precision}: base learners"
    if selector.precision == learner.precision:
        line += " and selection net"
    else:
        line += f"; in {selector.precision}: selection net"
    if learner.in_bfloat16 or selector.in_bfloat16:
        line += f"; bfloat16 by {bfloat16_hardware() or 'emulation, which is slow'}"
    return line
