"""distcel: learn for each sample which k of n classifiers predict it, and combine their outputs.

End-to-end combinatorial ensemble learning (Kotary, Di Vito, Fioretto, "Differentiable Model
Selection for Ensemble Learning", IJCAI 2023), its hyperparameters searched on a Ray cluster.
Importing the package loads nothing heavy: its names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distcel.cli.notebook import progress as progress
    from distcel.core.ensemble import SmartEnsemble as SmartEnsemble
    from distcel.core.knapsack import KnapsackLayer as KnapsackLayer
    from distcel.core.knapsack import top_k_mask as top_k_mask
    from distcel.core.priced_layer import PricedKnapsackLayer as PricedKnapsackLayer
    from distcel.execute.workers import Workers as Workers
    from distcel.experiment.architecture import Architecture as Architecture
    from distcel.experiment.errors import InvalidInputError as InvalidInputError
    from distcel.experiment.errors import RunFailedError as RunFailedError
    from distcel.experiment.learner_sets import Clients as Clients
    from distcel.experiment.loading import load_experiment as load_experiment
    from distcel.experiment.types import Experiment as Experiment
    from distcel.experiment.types import Recipe as Recipe
    from distcel.experiment.types import SelectionParams as SelectionParams
    from distcel.facade.fit import compare as compare
    from distcel.facade.fit import fit as fit
    from distcel.facade.predictions import multiply_adds_of as multiply_adds_of
    from distcel.facade.predictions import predictions_of as predictions_of
    from distcel.facade.reproduce import reproduce as reproduce
    from distcel.facade.run import Run as Run
    from distcel.facade.run import load_run as load_run
    from distcel.facade.select import select as select
    from distcel.facade.smart_selector import SmartSelector as SmartSelector
    from distcel.serve.saved import load_ensemble as load_ensemble
    from distcel.serve.selector import Selector as Selector
    from distcel.serve.selector import load_selector as load_selector

_MODULES = {
    "Architecture": "distcel.experiment.architecture",
    "Clients": "distcel.experiment.learner_sets",
    "Experiment": "distcel.experiment.types",
    "InvalidInputError": "distcel.experiment.errors",
    "KnapsackLayer": "distcel.core.knapsack",
    "PricedKnapsackLayer": "distcel.core.priced_layer",
    "Recipe": "distcel.experiment.types",
    "Run": "distcel.facade.run",
    "RunFailedError": "distcel.experiment.errors",
    "SelectionParams": "distcel.experiment.types",
    "Selector": "distcel.serve.selector",
    "SmartEnsemble": "distcel.core.ensemble",
    "SmartSelector": "distcel.facade.smart_selector",
    "Workers": "distcel.execute.workers",
    "compare": "distcel.facade.fit",
    "fit": "distcel.facade.fit",
    "load_ensemble": "distcel.serve.saved",
    "load_experiment": "distcel.experiment.loading",
    "load_run": "distcel.facade.run",
    "load_selector": "distcel.serve.selector",
    "multiply_adds_of": "distcel.facade.predictions",
    "predictions_of": "distcel.facade.predictions",
    "progress": "distcel.cli.notebook",
    "reproduce": "distcel.facade.reproduce",
    "select": "distcel.facade.select",
    "top_k_mask": "distcel.core.knapsack",
}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("distcel")
    if name not in _MODULES:
        raise AttributeError(f"module 'distcel' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
