"""Predicting with the selected learners alone against all n learners on every image.

    python -m benchmarks.serving

CPU seconds of one thread, untrained networks, random images. Scores are random: an untrained
selection net would select the same learners for all images, whose batches would be larger than
those of a trained one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import in_turns, ratio, table
from distcel.core.ensemble import smart_ensemble
from distcel.core.networks import NetworkPlan
from distcel.experiment.learner_sets import learner_specs
from distcel.experiment.loading import load_experiment
from distcel.serve.ensemble import Ensemble

CASES = [("cifar10", "paper", 10, (3, 32, 32)), ("fer2013", "quick", 7, (1, 24, 24))]
N_IMAGES, BATCHES, REPETITIONS = 32, (1, 32), 7


def untrained(dataset: str, preset: str, n_classes: int, shape: tuple[int, int, int]) -> Ensemble:
    """The preset's networks, as a saved ensemble has them."""
    experiment = load_experiment(dataset, preset)
    plan = NetworkPlan(experiment.network, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    classes = tuple(str(c) for c in range(n_classes))
    names = tuple(spec.name for spec in learner_specs(classes))
    net = plan.build(len(names), 0)
    net.register_forward_hook(lambda _, __, scores: torch.randn_like(scores))
    smart = smart_ensemble(net, experiment.first_trial, len(names), n_classes)
    learners: list[nn.Module] = [plan.build(n_classes, i) for i in range(len(names))]
    return Ensemble(smart, learners, classes, names, plan, 1.0, kept=range(len(names)))


@torch.inference_mode()
def dense(ensemble: Ensemble, images_BCHW: Tensor) -> Tensor:
    """Class probabilities (B, C), with every learner run on every image."""
    probs_BNC = torch.stack([net(images_BCHW).softmax(-1) for net in ensemble.learners], 1)
    logits_BC: Tensor = ensemble.smart(images_BCHW, probs_BNC)
    return logits_BC.softmax(-1)


def candidates(
    ensemble: Ensemble, batches: Sequence[Tensor], ks: list[int]
) -> dict[str, Callable[[], object]]:
    """The dense prediction of all batches, and the sparse one at each k."""

    def sparse(k: int) -> None:
        ensemble.smart.layer.k = k
        for batch in batches:
            ensemble(batch)

    runs: dict[str, Callable[[], object]] = {f"k = {k}": partial(sparse, k) for k in ks}
    return {"dense": lambda: [dense(ensemble, batch) for batch in batches], **runs}


def report() -> str:
    """The table, as Markdown."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = []
    for dataset, preset, n_classes, shape in CASES:
        ensemble = untrained(dataset, preset, n_classes, shape)
        n = len(ensemble.learner_names)
        ks = [1, 5, n // 2, n]
        for batch in BATCHES:
            images = torch.randint(0, 256, (N_IMAGES, *shape), dtype=torch.uint8)
            runs = candidates(ensemble, images.split(batch), ks)
            times = in_turns(runs, REPETITIONS, time.process_time)
            throughput = f"{N_IMAGES / times['dense'].median:.0f}"
            faster = [ratio(times["dense"], times[f"k = {k}"]) for k in ks]
            rows.append([f"{dataset}, {preset}", n, batch, throughput, *faster])
    head = ["data set", "n", "images a batch", "dense, images a CPU second"]
    head += [f"k = {k}: times the throughput" for k in ("1", "5", "n/2", "n")]
    return table(head, rows)


if __name__ == "__main__":
    print(report())
