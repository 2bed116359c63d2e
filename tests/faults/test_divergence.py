"""A loss that becomes NaN or infinite in a trial, at any epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distcel.execute.pool import WorkerPool
from distcel.experiment.types import SelectionParams
from distcel.search.trials import best_trial
from distcel.train.selection import SelectionTask, SelectionTraining
from tests.search.test_search import search, task  # noqa: F401


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_the_trial_fails_with_its_reason_and_the_search_goes_on(
    epoch: int,
    value: float,
    task: SelectionTask,  # noqa: F811
    pool: WorkerPool,
    tmp_path: Path,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    if times(0, 1) == 0 and (epoch == 2) != (value == float("inf")):
        pytest.skip("in the full run")

    @dataclass(frozen=True)
    class Poisoned(SelectionTask):
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

    poisoned = Poisoned(task.experiment, task.plan, task.train, task.valid, task.seed)
    records = search(poisoned, tmp_path, 3)
    first, *others = records
    assert first.params.gradient == "paper"
    held = first.state == "FAILED" and "became" in first.reason and len(first.epochs) == epoch - 1
    tally("NaN or infinite loss", held and len(others) == 2)
    healthy = [record for record in others if record.params.gradient != "paper"]
    assert healthy, "the seed gives other gradients as well"
    assert best_trial(records).params.gradient != "paper"
