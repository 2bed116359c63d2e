"""A loss that becomes NaN or infinite in a trial, at any epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf, nan
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Executor
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.types import SelectionParams
from distcel.search.trials import best_trial
from distcel.train.selection import SelectionTraining, TrainingTask
from tests.search.test_search import search, task  # noqa: F401

EVERY = [
    (where, epoch, value)
    for where in ("inline", "ray")
    for epoch in (1, 2, 3)
    for value in (nan, inf)
]
SHORT = [("inline", 1, nan), ("inline", 3, nan), ("ray", 2, inf)]


@pytest.mark.parametrize(("where", "epoch", "value"), EVERY)
def test_the_trial_fails_with_its_reason_and_the_search_continues(
    where: str,
    epoch: int,
    value: float,
    task: TrainingTask,  # noqa: F811
    request: pytest.FixtureRequest,
    tmp_path: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    if times(0, 1) == 0 and (where, epoch, value) not in SHORT:
        pytest.skip("in the full run")

    @dataclass(frozen=True)
    class Poisoned(TrainingTask):
        """Trials with the paper's gradient diverge in the given epoch."""

        def begin(self, params: SelectionParams, device: torch.device) -> SelectionTraining:
            selection = super().begin(params, device)
            training, healthy = selection.training, selection.training.batch_loss

            def batch_loss(batch_B: Tensor, generator: torch.Generator) -> Tensor:
                loss = healthy(batch_B, generator)
                return loss * value if training.epoch + 1 == epoch else loss

            if params.gradient == "paper":
                training.batch_loss = batch_loss
            return selection

    executor: Executor = InlineExecutor()
    if where == "ray":
        executor = RayExecutor(lambda: request.getfixturevalue("pool"))
    poisoned = Poisoned(*(getattr(task, field.name) for field in fields(task)))
    records = search(poisoned, tmp_path, 3, executor)
    first, *others = records
    assert first.params.gradient == "paper"
    held = first.state == "FAILED" and "became" in first.reason and len(first.epochs) == epoch - 1
    tally("NaN or infinite loss", held and len(others) == 2)
    healthy = [record for record in others if record.params.gradient != "paper"]
    assert healthy, "the seed gives other gradients as well"
    assert best_trial(records).params.gradient != "paper"
