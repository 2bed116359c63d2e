"""The 1,797 8x8 digits inside scikit-learn, for a first run without any download.

    python launch/cluster.py

The paper has no such data set; learners and recipes are those of its MNIST experiment, with
smaller batches and more epochs of the selection net because there are so few samples.
"""

from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from distcel.types import Architecture, Experiment, Recipe, SelectionParams

_QUICK = Experiment(
    dataset="digits",
    image_size=16,  # the smallest that two 5x5 convolutions with pooling leave anything of
    specialty_share=0.732,
    architecture=Architecture("lenet", (6, 16)),
    learner_recipe=Recipe("adadelta", lr=1.0, epochs=3, batch_size=16, schedule="step"),
    selector_recipe=Recipe("adadelta", lr=1.0, epochs=10, batch_size=32, schedule="step"),
    space={
        "epsilon": FloatDistribution(0.01, 1.0, log=True),
        "m": IntDistribution(1, 1000, log=True),
        "lr": FloatDistribution(0.1, 3.0, log=True),
        "gradient": CategoricalDistribution(["exact", "conditional", "paper"]),
    },
    first_trial=SelectionParams(k=10, epsilon=0.1, m=1000, lr=1.0, gradient="paper"),
    num_samples=16,
)

PRESETS = {
    "smoke": replace(
        _QUICK,
        max_samples=300,
        num_samples=3,
        learner_recipe=replace(_QUICK.learner_recipe, epochs=1),
        selector_recipe=replace(_QUICK.selector_recipe, epochs=2),
        note="Preset smoke: 300 samples a split, 1 and 2 epochs; it only shows that all works.",
    ),
    "quick": _QUICK,
    "paper": replace(_QUICK, num_samples=64),
}
