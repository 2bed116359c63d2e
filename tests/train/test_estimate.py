"""The estimate of a launch's duration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from distcel.train import estimate


def test_a_first_step_that_prepares_the_kernels_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, durations = [0.0], iter([1.0, *[0.4] * 9])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def step() -> None:
        now[0] += next(durations)

    assert estimate._measure(step, torch.device("cpu")) == pytest.approx(0.4)
