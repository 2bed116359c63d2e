"""FER2013: 28,709 + 7,178 grey faces of 48x48 pixels in 7 emotions.

    python launch/cluster.py --dataset fer2013 --data-dir DIR --preset paper

The paper reports 66.31 % with k = 13 of 28. It gives neither batch size nor augmentation; 128 and
a flip with a small crop are used here. Full width and 70 epochs for 28 learners want a GPU.

Preset quick, six learners, seed 0, valid accuracy specialised / complementary / overall in %
(`python -m benchmarks.recipes fer2013`): batch 64 without augmentation 79.9 / 37.6 / 45.7,
flip 79.5 / 37.0 / 45.3, flip and crop 79.9 / 31.4 / 40.8; batch 128 79.9 / 37.0 / 45.3,
78.8 / 35.9 / 44.3, 79.0 / 29.5 / 38.9. Three epochs are too few for crops; what 70 make of them has
not been measured here.

Preset half_day is for two cores with bfloat16: 144 to 151 minutes of one core a seed by three runs
of `--dry-run` on an AMD EPYC with AVX512-BF16, before the comparison. Its learning rates and epochs
were set by the time, and not tuned; of its four trials the first is this file's and three are
random.
"""

from dataclasses import replace

from distcel.experiment.architecture import Architecture
from distcel.experiment.types import Experiment, Published, Recipe, SelectionParams

from .common import paper_space, selection_space, smoke

_PAPER = Experiment(
    dataset="fer2013",
    image_size=None,
    specialty_share=0.444,
    architecture=Architecture("resnet9", (64, 128, 256, 512)),
    learner_recipe=Recipe("adam", 0.001, 70, 128, schedule="one_cycle", augmentation="flip_crop"),
    selector_recipe=Recipe("adam", 0.001, 20, 128, schedule="one_cycle"),
    space=paper_space(0.0001, 0.01),
    first_trial=SelectionParams(k=13, epsilon=0.1, m=1000, lr=0.001, gradient="paper"),
    num_samples=24,
    note="Batches of 128, and for the base learners flips and crops, are not the paper's, which "
    "says nothing of either.",
    published=Published(
        specialised=0.794,
        complementary=0.381,
        overall=0.478,
        e2e_cel=0.6631,
        super_learner=0.6495,
        unweighted_average=0.6389,
        plurality_vote=0.6315,
        random_selection=0.6389,
        k=13,
    ),
)
_NARROW = replace(_PAPER, image_size=24, architecture=Architecture("resnet9", (8, 16, 32, 64)))

PRESETS = {
    "smoke": smoke(_NARROW, 1000),
    "quick": replace(
        _NARROW,
        num_samples=8,
        k="any",
        learner_recipe=replace(
            _PAPER.learner_recipe, lr=0.01, epochs=3, augmentation="flip", precision="auto"
        ),
        selector_recipe=replace(
            _PAPER.selector_recipe, epochs=8, augmentation="flip", precision="auto"
        ),
        space=selection_space(0.001, 0.03),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.005, gradient="exact"),
        note="Preset quick: an eighth of the network's width and 24x24 pixels; base learners at "
        "lr 0.01 for 3 epochs with flips, not at 0.001 for 70; selection net for 8 with flips, "
        "not 20.",
    ),
    "half_day": replace(
        _PAPER,
        architecture=Architecture("resnet9", (16, 32, 64, 128)),
        num_samples=4,
        k="any",
        learner_recipe=replace(_PAPER.learner_recipe, lr=0.005, epochs=12, precision="auto"),
        selector_recipe=replace(
            _PAPER.selector_recipe, epochs=12, augmentation="flip_crop", precision="auto"
        ),
        space=selection_space(0.0005, 0.02),
        first_trial=replace(_PAPER.first_trial, m=1, lr=0.003, gradient="exact"),
        note="Preset half_day: a quarter of the network's width; base learners at lr 0.005 for 12 "
        "epochs, not at 0.001 for 70; selection net for 12 epochs with flips and crops, not 20.",
    ),
    "paper": _PAPER,
}
