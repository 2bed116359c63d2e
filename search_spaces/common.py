"""What the data sets' search spaces share."""

from dataclasses import replace

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from distcel.experiment.types import Experiment


def selection_space(lowest_lr: float, highest_lr: float) -> dict[str, BaseDistribution]:
    """Epsilon and lr, both logarithmic; the gradient and m are those of the first trial.

    Scores have norm 1, so that one score is about 1/sqrt(n), 0.13 for 55 learners and 0.26 for 15:
    epsilon from far below that to several times it.
    """
    return {
        "epsilon": FloatDistribution(0.01, 1.0, log=True),
        "lr": FloatDistribution(lowest_lr, highest_lr, log=True),
    }


def paper_space(lowest_lr: float, highest_lr: float) -> dict[str, BaseDistribution]:
    """All that the paper has, and the other two gradients.

    A trial with m = 1,000 draws is slow with any gradient but `exact`, hence m's scale.
    """
    return {
        **selection_space(lowest_lr, highest_lr),
        "m": IntDistribution(1, 1000, log=True),
        "gradient": CategoricalDistribution(["exact", "conditional", "paper"]),
    }


def smoke(experiment: Experiment, max_samples: int) -> Experiment:
    """The experiment in seconds: it shows that all works, and its numbers mean nothing."""
    return replace(
        experiment,
        max_samples=max_samples,
        num_samples=2,
        learner_recipe=replace(experiment.learner_recipe, epochs=1),
        selector_recipe=replace(experiment.selector_recipe, epochs=2),
        note=f"Preset smoke: {max_samples} samples a split, 1 and 2 epochs: no result.",
    )
