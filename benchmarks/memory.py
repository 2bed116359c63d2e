"""Training steps of a worker, which keeps freed memory, against the same steps without that.

    python -m benchmarks.memory

One thread, random images; each turn is a process of its own, which trains for some seconds. Where
the outputs of all layers are small, glibc keeps the memory by itself.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from json import dumps, loads

import torch
from torch.nn.functional import cross_entropy

from benchmarks.measure import Timing, ratio, table
from distcel.core.networks import NetworkPlan
from distcel.execute.process import set_up_worker
from distcel.experiment.loading import load_experiment
from distcel.experiment.types import Experiment, Recipe
from distcel.train.loop import Training
from distcel.train.precision import resolved

# Data set, preset, image shape and batches a turn.
CASES = [
    ("utkface", "half_day", (3, 96, 96), 12),
    ("utkface", "paper", (3, 200, 200), 1),
    ("fer2013", "half_day", (1, 48, 48), 20),
    ("cifar10", "quick", (3, 32, 32), 60),
]
N_CLASSES, REPETITIONS = 7, 5


@dataclass(frozen=True)
class Turn:
    """Seconds, peak memory in MiB, and pages that the operating system handed over."""

    seconds: float
    mebibytes: float
    pages: int


def turn(experiment: Experiment, shape: tuple[int, int, int], n_batches: int, kept: bool) -> Turn:
    """Train on `n_batches` once the first two have passed."""
    torch.set_num_threads(1)
    if kept:
        set_up_worker()
    recipe = experiment.learner_recipe
    plan = NetworkPlan(experiment.network, shape, (0.5,) * shape[0], (0.25,) * shape[0])
    network = plan.build(N_CLASSES, 0, recipe.in_bfloat16)
    images = torch.randint(0, 256, (recipe.batch_size, *shape), dtype=torch.uint8)
    labels = torch.randint(0, N_CLASSES, (recipe.batch_size,))

    def loss(batch_B: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return cross_entropy(network(images[batch_B]), labels[batch_B])

    indices = torch.arange(recipe.batch_size)
    training = Training(network, loss, indices, Recipe("adam", 1e-3, 999, recipe.batch_size), 0)
    for _ in range(2):
        training.run_epoch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    started = time.perf_counter()
    for _ in range(n_batches):
        training.run_epoch()
    seconds = time.perf_counter() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Turn(seconds, usage.ru_maxrss / 1024, usage.ru_minflt - before)


def in_a_process(case: int, kept: bool) -> Turn:
    """A turn of one case in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.memory", f"{case}", f"{int(kept)}"]
    return Turn(**loads(subprocess.run(words, check=True, capture_output=True).stdout))


def report() -> str:
    """The table, as Markdown."""
    rows = []
    for i, (dataset, preset, shape, n_batches) in enumerate(CASES):
        found: dict[bool, list[Turn]] = {False: [], True: []}
        for kept in islice(cycle(found), 2 * REPETITIONS):
            found[kept].append(in_a_process(i, kept))
        usual, own = (Timing(tuple(one.seconds for one in found[kept])) for kept in found)
        last = [found[kept][-1] for kept in found]
        rows.append(
            [
                f"{dataset}, {preset}",
                "x".join(map(str, shape)),
                *(f"{one.pages // n_batches}" for one in last),
                *(f"{one.mebibytes:.0f}" for one in last),
                f"{1e3 * own.median / n_batches:.0f}",
                ratio(usual, own),
            ]
        )
    head = ["data set, preset", "image", "pages a step, usual", "pages a step, worker"]
    head += ["peak MiB, usual", "peak MiB, worker", "ms a step, worker", "times as fast"]
    return table(head, rows)


def main() -> None:
    """The report, or one turn, whose figures a process of its own prints."""
    if len(sys.argv) == 1:
        print(report())
        return
    dataset, preset, shape, n_batches = CASES[int(sys.argv[1])]
    experiment = resolved(load_experiment(dataset, preset))
    print(dumps(asdict(turn(experiment, shape, n_batches, sys.argv[2] == "1"))))


if __name__ == "__main__":
    main()
