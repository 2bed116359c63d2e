"""The knapsack layer against the one that holds the noise of all draws at once.

    python -m benchmarks.knapsack

Forward and backward, two threads. The naive layer is Eq. 7 as it stands, on a tensor of m x B x n
draws. Memory is what a fresh process needs above what it had before its first call. The error of
`conditional` is the mean and the largest of 20 batches, relative to `exact`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.measure import Timing, in_turns, ratio, table
from distcel.core.knapsack import KnapsackLayer, top_k_mask
from distcel.experiment.types import Gradient
from tests.core.test_knapsack import (
    LARGEST_ERROR,
    dense_product,
    errors_of_conditional,
    relative_error,
)

# B, n, k, m, epsilon; targets: exact and conditional, how many times faster than the naive layer.
SETTINGS = [
    ((256, 55, 10, 500, 0.1), 10, 35),
    ((256, 28, 13, 1000, 0.1), 20, 35),
    ((1024, 55, 10, 1000, 0.05), 35, 150),
    ((128, 15, 7, 500, 0.1), 3, 10),
]
REPETITIONS = 15
Setting = tuple[int, int, int, int, float]


class _NaiveTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, scores: Tensor, k: int, m: int, epsilon: float) -> Tensor:
        ctx.save_for_backward(scores)  # type: ignore[attr-defined]
        ctx.settings = k, m, epsilon  # type: ignore[attr-defined]
        return top_k_mask(scores, k)

    @staticmethod
    def backward(ctx: object, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (scores,) = ctx.saved_tensors  # type: ignore[attr-defined]
        k, m, epsilon = ctx.settings  # type: ignore[attr-defined]
        noise = torch.randn(m, *scores.shape)
        masks = top_k_mask(scores + epsilon * noise, k)
        values = (masks * upstream).sum(-1, keepdim=True)
        return (values * noise).mean(0) / epsilon, None, None, None


class NaiveLayer(nn.Module):
    """Eq. 7 on all draws at once."""

    def __init__(self, k: int, epsilon: float, m: int) -> None:
        super().__init__()
        self.k, self.epsilon, self.m = k, epsilon, m

    def forward(self, scores: Tensor) -> Tensor:
        """The mask."""
        mask: Tensor = _NaiveTopK.apply(scores, self.k, self.m, self.epsilon)
        return mask


def layers(setting: Setting) -> dict[str, nn.Module]:
    """The candidates for one setting."""
    _, _, k, m, epsilon = setting

    def ours(gradient: Gradient, draws: int) -> KnapsackLayer:
        return KnapsackLayer(k, epsilon, draws, gradient)

    return {
        "naive": NaiveLayer(k, epsilon, m),
        "exact": ours("exact", 1),
        "conditional": ours("conditional", 4),
        "paper": ours("paper", m),
    }


def step(layer: nn.Module, setting: Setting) -> Callable[[], Tensor]:
    """A forward and a backward pass on normalised random scores."""
    generator = torch.Generator().manual_seed(0)
    scores = normalize(torch.randn(setting[0], setting[1], generator=generator), dim=-1)
    scores.requires_grad_()
    upstream = torch.randn(setting[0], setting[1], generator=generator)

    def run() -> Tensor:
        scores.grad = None
        layer(scores).backward(upstream)
        assert scores.grad is not None
        return scores.grad

    return run


def error_of_exact(setting: Setting) -> float:
    """Relative error of the gradient on 4 rows, against a fine integral over pairs."""
    _, n, k, _, epsilon = setting
    run = step(KnapsackLayer(k, epsilon, 1), (4, *setting[1:]))
    generator = torch.Generator().manual_seed(0)
    scores = normalize(torch.randn(4, n, generator=generator), dim=-1)
    upstream = torch.randn(4, n, generator=generator)
    return relative_error(run(), dense_product(scores, upstream, k, epsilon))


def errors_of_draws(setting: Setting) -> list[str]:
    """Of `conditional`, for each m that has a target: mean and largest relative error."""
    rows, n, k, _, epsilon = setting
    errors = [errors_of_conditional(rows, n, k, epsilon, m) for m in LARGEST_ERROR]
    return [f"{mean(found):.2f}, at most {max(found):.2f}" for found in errors]


def memory(setting: Setting, name: str) -> float:
    """MiB that one forward and backward pass adds to a fresh process's peak."""
    code = (
        "import sys; from benchmarks import knapsack; "
        f"print(knapsack.peak_of({setting!r}, {name!r}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout)


def peak_of(setting: Setting, name: str) -> float:
    """As `memory`, in this process."""
    torch.set_num_threads(2)
    step(layers(setting)["conditional"], (2, *setting[1:]))()  # what torch loads once
    run = step(layers(setting)[name], setting)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; a child inherits it
    before = _peak_kib()
    run()
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line)


def report() -> str:
    """The tables, as Markdown."""
    torch.set_num_threads(2)
    rows = []
    for setting, exact_target, conditional_target in SETTINGS:
        times = in_turns(
            {n: step(layer, setting) for n, layer in layers(setting).items()}, REPETITIONS
        )
        used = {name: memory(setting, name) for name in ("naive", "exact")}
        rows.append(
            [
                setting,
                f"{1e3 * times['naive'].median:.1f}",
                f"{ratio(times['naive'], times['exact'])}, target {exact_target}",
                f"{error_of_exact(setting):.1e}",
                f"{used['exact']:.0f} of {used['naive']:.0f}",
                f"{ratio(times['naive'], times['conditional'])}, target {conditional_target}",
                *errors_of_draws(setting),
                ratio(times["naive"], times["paper"]),
            ]
        )
    head = ["B, n, k, m, epsilon", "naive, ms", "exact, times faster", "its error (2e-3)"]
    head += ["its MiB (a fifth)", "conditional m = 4"]
    head += [f"its error at m = {m} ({target})" for m, target in LARGEST_ERROR.items()] + ["paper"]
    with_n = [(n, max(1, n // 5)) for n in (15, 28, 55, 200, 1000)]
    with_k = [(200, k) for k in (1, 10, 50, 100, 199)]
    growth = "\n\n".join(
        f"Growth with {name} at B = 256:\n\n{_growth(sizes)}"
        for name, sizes in (("n", with_n), ("k", with_k))
    )
    return f"{table(head, rows)}\n\n{growth}"


def _growth(sizes: list[tuple[int, int]]) -> str:
    rows = []
    for n, k in sizes:
        setting = (256, n, k, 100, 0.1)
        times = in_turns({g: step(layer, setting) for g, layer in layers(setting).items()}, 5)
        rows.append([n, k, *_milliseconds(times), f"{1e3 * _forward(setting):.2f}"])
    head = ["n", "k", "exact, ms", "conditional, ms", "naive m = 100, ms", "forward alone, ms (1)"]
    return table(head, rows)


def _milliseconds(times: dict[str, Timing]) -> list[str]:
    return [f"{1e3 * times[name].median:.1f}" for name in ("exact", "conditional", "naive")]


def _forward(setting: Setting) -> float:
    scores = torch.randn(setting[0], setting[1])
    layer = KnapsackLayer(setting[2], 0.1, 1)
    with torch.inference_mode():
        return in_turns({"forward": lambda: layer(scores)}, 50)["forward"].median


if __name__ == "__main__":
    print(report())
