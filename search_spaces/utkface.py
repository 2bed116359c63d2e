"""UTKFace: the 9,780 colour faces of 200x200 pixels in crop_part1, in 5 age classes.

    python launch/cluster.py --dataset utkface --data-dir DIR --preset paper

The paper reports 90.97 % with k = 7 of 15. It gives neither batch size nor split; batches of 64
and 20 % for test are used here. ResNet18 starts from ImageNet weights; full size wants a GPU.

Preset quick, six learners, seed 0, valid accuracy specialised / complementary / overall in %
(`python -m benchmarks.recipes utkface`): batch 64 without augmentation 74.4 / 61.6 / 65.5,
flip 84.7 / 48.4 / 60.4, flip and crop 82.1 / 44.6 / 57.1; batch 128 83.9 / 47.0 / 59.0,
81.7 / 47.7 / 59.6, 77.6 / 38.7 / 50.8. Flip at batch 64 makes the best specialists.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Published, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_PAPER = Experiment(
    dataset="utkface",
    image_size=200,
    specialty_share=0.583,
    architecture=Architecture("resnet18"),
    learner_recipe=Recipe("adadelta", 1.0, 10, 64, schedule="step", augmentation="flip"),
    selector_recipe=Recipe("adadelta", 1.0, 10, 64),
    space=paper_space(0.01, 3.0),
    first_trial=SelectionParams(k=7, epsilon=0.1, m=1000, lr=1.0, gradient="paper"),
    num_samples=24,
    note="Batches of 64 as in its authors' code, flips for the base learners and the fifth that is "
    "test are not the paper's, which says nothing of them.",
    published=Published(
        specialised=0.932,
        complementary=0.252,
        overall=0.512,
        e2e_cel=0.9097,
        super_learner=0.8507,
        unweighted_average=0.8460,
        plurality_vote=0.8078,
        random_selection=0.8460,
        k=7,
    ),
)
_NARROW = replace(_PAPER, image_size=48, architecture=Architecture("resnet9", (8, 16, 32, 64)))

PRESETS = {
    "smoke": smoke(_NARROW, 600),
    "quick": replace(
        _NARROW,
        num_samples=8,
        k="any",
        learner_recipe=replace(_PAPER.learner_recipe, epochs=4),
        selector_recipe=Recipe("adam", 0.001, 8, 64, "one_cycle", augmentation="flip"),
        space=selection_space(0.0002, 0.01),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.001, gradient="exact"),
        note="Preset quick: a ResNet9 of an eighth of the width from random weights, not a "
        "ResNet18 from ImageNet; 48x48 pixels, not 200x200; base learners for 4 epochs, not 10; "
        "selection net by Adam with OneCycleLR and flips for 8, not by Adadelta for 10.",
    ),
    "half_day": replace(
        _PAPER,
        image_size=96,
        architecture=Architecture("efficientnet_lite0"),
        num_samples=4,
        k="any",
        learner_recipe=Recipe("adam", 0.001, 6, 64, "one_cycle", augmentation="flip_crop"),
        selector_recipe=Recipe("adam", 0.001, 6, 64, "one_cycle", augmentation="flip_crop"),
        space=selection_space(0.0003, 0.003),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.001, gradient="exact"),
        note="Preset half_day: an EfficientNet-Lite0 from ImageNet, not a ResNet18; 96x96 pixels, "
        "not 200x200; base learners and selection net by Adam with OneCycleLR, flips and crops for "
        "6 epochs, not by Adadelta for 10.",
    ),
    "paper": _PAPER,
}
