"""The knapsack layer against the perturbed optimisers of PyEPO and jaxopt.

    pip install -e '.[benchmarks]' && python -m benchmarks.perturbed_optimisers

Forward and backward at the same m and epsilon. Both draw in the forward pass, too, and return the
mean of the draws' masks, where the knapsack layer returns a hard one. PyEPO calls its optimiser
for each draw, here numpy's partial sort; jaxopt is compiled, and uses all cores.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch.nn.functional import normalize

from benchmarks.knapsack import SETTINGS, Setting, layers, step
from benchmarks.measure import in_turns, ratio, table

REPETITIONS = 5


def inputs(setting: Setting) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised scores and an upstream gradient, both (B, N)."""
    generator = torch.Generator().manual_seed(0)
    scores, upstream = torch.randn(2, setting[0], setting[1], generator=generator)
    return normalize(scores, dim=-1), upstream


def pyepo_step(setting: Setting) -> Callable[[], object]:
    """`pyepo.func.perturbedOpt` around a partial sort."""
    import numpy as np
    from pyepo import EPO
    from pyepo.func import perturbedOpt
    from pyepo.model.opt import optModel

    _, n, k, m, epsilon = setting

    class TopK(optModel):
        def __init__(self) -> None:
            self.modelSense = EPO.MAXIMIZE
            super().__init__()

        def _getModel(self) -> tuple[None, list[int]]:  # noqa: N802
            return None, list(range(n))

        def setObj(self, c: object) -> None:  # noqa: N802
            self.costs = np.asarray(c)

        def solve(self) -> tuple[object, float]:
            chosen = np.argpartition(-self.costs, k - 1)[:k]
            mask = np.zeros(n, np.float32)
            mask[chosen] = 1
            return mask, float(self.costs[chosen].sum())

    layer = perturbedOpt(TopK(), n_samples=m, sigma=epsilon)
    scores, upstream = inputs(setting)
    scores.requires_grad_()

    def run() -> object:
        scores.grad = None
        layer(scores).backward(upstream)
        return scores.grad

    return run


def jaxopt_step(setting: Setting) -> Callable[[], object]:
    """`jaxopt.perturbations.make_perturbed_argmax` around `jax.lax.top_k`, compiled."""
    import jax
    from jaxopt.perturbations import Normal, make_perturbed_argmax

    batch, _, k, m, epsilon = setting

    def mask(scores: jax.Array) -> jax.Array:
        return jax.numpy.zeros_like(scores).at[jax.lax.top_k(scores, k)[1]].set(1.0)

    perturbed = make_perturbed_argmax(mask, num_samples=m, sigma=epsilon, noise=Normal())

    @jax.jit
    def product(scores: jax.Array, upstream: jax.Array, key: jax.Array) -> jax.Array:
        keys = jax.random.split(key, batch)
        _, pull_back = jax.vjp(lambda rows: jax.vmap(perturbed)(rows, keys), scores)
        return pull_back(upstream)[0]

    scores, upstream = (jax.numpy.asarray(x.numpy()) for x in inputs(setting))
    return lambda: product(scores, upstream, jax.random.PRNGKey(0)).block_until_ready()


def report() -> str:
    """The table, as Markdown; one line where the two are not installed."""
    missing = [name for name in ("pyepo", "jaxopt") if find_spec(name) is None]
    if missing:
        return f"Not measured: {missing} not installed (`pip install -e '.[benchmarks]'`)."
    torch.set_num_threads(2)
    rows = []
    for setting, _, _ in SETTINGS:
        candidates: dict[str, Callable[[], object]] = {
            name: step(layer, setting) for name, layer in layers(setting).items()
        }
        candidates |= {"PyEPO": pyepo_step(setting), "jaxopt": jaxopt_step(setting)}
        times = in_turns(candidates, REPETITIONS)
        rows.append(
            [
                setting,
                *(f"{1e3 * times[other].median:.0f}" for other in ("PyEPO", "jaxopt")),
                *(
                    ratio(times[other], times[own])
                    for own in ("exact", "conditional", "paper")
                    for other in ("PyEPO", "jaxopt")
                ),
            ]
        )
    head = ["B, n, k, m, epsilon", "PyEPO, ms", "jaxopt, ms"]
    head += [
        f"{own}: times as fast as {other}"
        for own in ("exact", "conditional m = 4", "paper")
        for other in ("PyEPO", "jaxopt")
    ]
    return table(head, rows)


if __name__ == "__main__":
    print(report())
