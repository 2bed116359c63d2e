"""Your own images: DIR/{train,test}/<class>/*, or DIR/<class>/*, of which a fifth becomes test.

    python launch/cluster.py --dataset folder --data-dir DIR

Images are resized to 64x64 pixels. The numbers are a start: change them here for your own images.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_QUICK = Experiment(
    dataset="folder",
    image_size=64,
    specialty_share=0.5,
    architecture=Architecture("resnet9", (16, 32, 64, 128)),
    learner_recipe=Recipe("adam", 0.005, 5, 64, schedule="one_cycle", augmentation="flip_crop"),
    selector_recipe=Recipe("adam", 0.005, 5, 64, schedule="one_cycle"),
    space=selection_space(0.0005, 0.02),
    first_trial=SelectionParams(k="any", epsilon=0.1, m=1, lr=0.005, gradient="exact"),
    num_samples=8,
    k="any",
    note="The paper has no such data set.",
)

PRESETS = {
    "smoke": smoke(replace(_QUICK, image_size=32), 300),
    "quick": replace(
        _QUICK,
        learner_recipe=replace(_QUICK.learner_recipe, precision="auto"),
        selector_recipe=replace(_QUICK.selector_recipe, precision="auto"),
    ),
    "paper": replace(
        _QUICK,
        architecture=Architecture("resnet9", (64, 128, 256, 512)),
        learner_recipe=replace(_QUICK.learner_recipe, lr=0.001, epochs=70),
        selector_recipe=replace(_QUICK.selector_recipe, lr=0.001, epochs=20),
        num_samples=24,
        k="searched",
        space=paper_space(0.0005, 0.02),
        first_trial=replace(_QUICK.first_trial, k=5),
        note="The paper has no such data set; networks and recipes as for FER2013, "
        "but for batches of 64, 64x64 pixels and the learners' share of their own classes.",
    ),
}
