"""MNIST: 60,000 + 10,000 grey images of 28x28 pixels in 10 classes.

    python launch/cluster.py --dataset mnist --data-dir DIR --preset paper

The paper reports 98.55 % with k = 10 of 55. It gives no batch size; its recipe is that of
PyTorch's MNIST example, which has batches of 64, as its authors' code does.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Published, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_PAPER = Experiment(
    dataset="mnist",
    image_size=None,
    specialty_share=0.732,
    architecture=Architecture("lenet", (10, 20)),
    learner_recipe=Recipe("adadelta", lr=1.0, epochs=14, batch_size=64, schedule="step"),
    selector_recipe=Recipe("adadelta", lr=1.0, epochs=8, batch_size=64),
    space=paper_space(0.03, 3.0),
    first_trial=SelectionParams(k=10, epsilon=0.1, m=1000, lr=1.0, gradient="paper"),
    num_samples=24,
    note="Batches of 64 are from its authors' code: the paper says nothing of them.",
    published=Published(
        specialised=0.975,
        complementary=0.868,
        overall=0.896,
        e2e_cel=0.9855,
        super_learner=0.9688,
        unweighted_average=0.9681,
        plurality_vote=0.9599,
        random_selection=0.9683,
        k=10,
    ),
)

PRESETS = {
    "smoke": smoke(_PAPER, 600),
    "quick": replace(
        _PAPER,
        num_samples=8,
        k="any",
        learner_recipe=replace(_PAPER.learner_recipe, epochs=1),
        selector_recipe=Recipe("adam", 0.003, 8, 128, "one_cycle"),
        space=selection_space(0.0003, 0.01),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.003, gradient="exact"),
        note="Preset quick: base learners for 1 epoch, not 14; selection net by Adam with "
        "OneCycleLR at batch 128, not by Adadelta at 64.",
    ),
    "paper": _PAPER,
}
