"""CIFAR-10: 50,000 + 10,000 colour images of 32x32 pixels in 10 classes.

    python launch/cluster.py --dataset cifar10 --data-dir DIR --preset paper

The paper reports 64.09 % with k = 10 of 55. It gives neither batch size nor momentum; network and
recipe are those of PyTorch's CIFAR-10 tutorial, whose batches of 4 and momentum of 0.9 are used
here. Without momentum a single-class learner predicts its own class for every image: specialised
100 %, complementary 0 %, where momentum gives 93 and 22, the paper 76 and 25 (means over all
learners).

Preset quick trains the selection net by FER2013's recipe (Adam, OneCycleLR), which CIFAR-10's
published one, Adadelta at 0.001, stays far behind.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Published, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_PAPER = Experiment(
    dataset="cifar10",
    image_size=None,
    specialty_share=0.552,
    architecture=Architecture("lenet", (6, 16)),
    learner_recipe=Recipe("sgd", lr=0.001, epochs=3, batch_size=4, momentum=0.9),
    selector_recipe=Recipe("adadelta", lr=0.001, epochs=3, batch_size=64),
    # Adadelta at the published lr of 0.001 moves a weight by 0.02 in 3 epochs: search above it.
    space=paper_space(0.001, 3.0),
    first_trial=SelectionParams(k=10, epsilon=0.1, m=1000, lr=0.001, gradient="paper"),
    num_samples=24,
    note="Batches of 4 and momentum 0.9 for the base learners, and batches of 64 for the selection "
    "net, as in its authors' code, are not the paper's, which says nothing of them.",
    published=Published(
        specialised=0.763,
        complementary=0.248,
        overall=0.311,
        e2e_cel=0.6409,
        super_learner=0.6013,
        unweighted_average=0.6059,
        plurality_vote=0.6035,
        random_selection=0.6059,
        k=10,
    ),
)
_FAST_LEARNERS = replace(_PAPER.learner_recipe, lr=0.01, batch_size=32)

PRESETS = {
    "smoke": smoke(replace(_PAPER, learner_recipe=_FAST_LEARNERS), 1000),
    "quick": replace(
        _PAPER,
        num_samples=8,
        k="any",
        learner_recipe=replace(_FAST_LEARNERS, epochs=2),
        selector_recipe=Recipe("adam", 0.003, 16, 128, "one_cycle", augmentation="flip"),
        space=selection_space(0.0005, 0.02),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.003, gradient="exact"),
        note="Preset quick: base learners at batch 32 and lr 0.01 for 2 epochs, not at 4 and 0.001 "
        "for 3; selection net by Adam with OneCycleLR and flips at batch 128 for 16 epochs, not by "
        "Adadelta for 3.",
    ),
    "paper": _PAPER,
}
