"""Fashion-MNIST: 60,000 + 10,000 grey images of 28x28 pixels in 10 classes.

    python launch/cluster.py --dataset fashion_mnist --data-dir DIR

The paper has no such data set; everything is as for MNIST.
"""

from dataclasses import replace

from . import mnist

PRESETS = {
    preset: replace(
        experiment,
        dataset="fashion_mnist",
        published=None,
        note=f"The paper has no such data set; as for MNIST. {experiment.note}",
    )
    for preset, experiment in mnist.PRESETS.items()
}
