"""Predictors that were trained elsewhere: what is trained for `distcel select`.

    distcel select --predictions DIR --truth truth.csv --always NAME --prices prices.json

The selection net is a network with two hidden layers on numbers, or a ResNet9 of quarter width on
images. The numbers are a start: change them here for your own predictors.
"""

import math

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Recipe, SelectionParams

from .common import selection_space


def experiment_of(
    name: str, inputs: tuple[int, ...], n_train: int, n_selectable: int | None
) -> Experiment:
    """The experiment for these predictors.

    Args:
        name: the name of the predictions, for titles and the ledger.
        inputs: the shape of what the selection net sees of a sample: (F,) or that of an image.
        n_train: number of samples in train.
        n_selectable: number of predictors that are not always asked, where they have prices; None
            where k are selected, whatever they cost.
    """
    priced = n_selectable is not None
    numbers = len(inputs) == 1
    width = min(max(2 ** round(math.log2(n_train) / 2), 32), 256)
    epochs = (120 if priced else 20) if numbers else 10
    # At least twenty batches an epoch, so that few samples do not mean few steps.
    batch_size = min(max(n_train // 20, 8), 128 if numbers else 64)
    recipe = Recipe("adam", 0.003, epochs, batch_size, schedule="one_cycle")
    space: dict[str, BaseDistribution] = dict(selection_space(0.0005, 0.02))
    first = SelectionParams(k="any", epsilon=0.1, m=1, lr=0.003, gradient="exact")
    if n_selectable is not None:
        space |= {
            "k": CategoricalDistribution([n_selectable]),
            "vote": CategoricalDistribution(["learned"]),
            "epsilon": FloatDistribution(0.05, 1.0, log=True),
        }
        first = SelectionParams(n_selectable, 0.3, 1, 0.003, "exact", "learned")
    mlp, resnet = Architecture("mlp", (width, width)), Architecture("resnet9", (16, 32, 64, 128))
    return Experiment(
        dataset=name,
        image_size=None,
        specialty_share=0.5,
        architecture=mlp if numbers else resnet,
        learner_recipe=recipe,
        selector_recipe=recipe,
        space=space,
        first_trial=first,
        num_samples=8,
        k="searched" if priced else "any",
        note="The predictors were not trained here.",
    )
