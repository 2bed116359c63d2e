"""The 1,797 8x8 digits inside scikit-learn, for a first run without any download.

    python launch/cluster.py

The paper has no such data set; learners and recipes are those of its MNIST experiment, with
smaller networks and batches, 3 epochs of the learners, not 14, and 10 of the selection net, not 8,
with the schedule of the learners.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_QUICK = Experiment(
    dataset="digits",
    image_size=16,  # the smallest that two 5x5 convolutions with pooling leave anything of
    specialty_share=0.732,
    architecture=Architecture("lenet", (6, 16)),
    learner_recipe=Recipe("adadelta", lr=1.0, epochs=3, batch_size=16, schedule="step"),
    selector_recipe=Recipe("adadelta", lr=1.0, epochs=10, batch_size=32, schedule="step"),
    space=selection_space(0.1, 3.0),
    first_trial=SelectionParams(k="any", epsilon=0.1, m=1, lr=1.0, gradient="exact"),
    num_samples=16,
    k="any",
    valid_share=0.2,  # a tenth would be 144 samples
    note="The paper has no such data set.",
)

PRESETS = {
    "smoke": smoke(_QUICK, 300),
    "quick": _QUICK,
    "paper": replace(
        _QUICK,
        num_samples=64,
        k="searched",
        space=paper_space(0.1, 3.0),
        first_trial=SelectionParams(k=10, epsilon=0.1, m=1000, lr=1.0, gradient="paper"),
    ),
}
