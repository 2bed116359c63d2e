"""SIGKILL of workers at random moments of the base learners' epochs."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from distcel.data.splits import Splits, load_splits
from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Progress, Work
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.learner_sets import LearnerSpec
from distcel.train import learner
from distcel.train.cache import PredictionCache
from distcel.train.learner import LearnerJob
from tests.train.learners import EXPERIMENT, Learners

N_LEARNERS, N_EPOCHS = 4, 50


@dataclass(frozen=True)
class Noted:
    """A learner's training that leaves a file for each epoch and one for its worker.

    Attributes:
        work: the training.
        name: of the learner.
        folder: `epochs` gets a file for each epoch that is done; `workers` one for each process
            that may be killed. It has done an epoch: five losses without one end the run.
    """

    work: Work
    name: str
    folder: Path

    def __call__(self, shared: Any, device: torch.device, state: bytes | None) -> Iterator[Any]:
        worker = self.folder / "workers" / str(os.getpid())
        for event in self.work(shared, device, state):
            if isinstance(event, Progress):
                (self.folder / "epochs" / f"{self.name}-{event.epoch}-{os.getpid()}").touch()
                worker.touch()
            else:
                worker.unlink(missing_ok=True)
            yield event


@contextmanager
def killing(workers: Path, kills: int) -> Iterator[list[int]]:
    """Kill, at random times, one of the processes whose numbers are file names in the folder."""
    over, moments, killed = threading.Event(), random.Random(0), list[int]()

    def kill_now_and_then() -> None:
        while len(killed) < kills and not over.wait(moments.uniform(0.1, 0.5)):
            for path in list(workers.iterdir())[:1]:
                with suppress(ProcessLookupError, FileNotFoundError):
                    os.kill(int(path.name), signal.SIGKILL)
                    killed.append(int(path.name))
                    path.unlink()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        yield killed
    finally:
        over.set()
        killer.join()


def test_no_epoch_that_was_kept_is_done_again_and_no_bit_changes(
    pool: WorkerPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    for name in ("workers", "epochs"):
        (tmp_path / name).mkdir()
    n_epochs, kills = times(N_EPOCHS, 8 * N_EPOCHS), times(2, 20)
    recipe = replace(EXPERIMENT.learner_recipe, epochs=n_epochs)
    longer = replace(EXPERIMENT, learner_recipe=recipe)
    splits: Splits = load_splits(longer, tmp_path, tmp_path / "data", seed=0)
    undisturbed = Learners(splits, tmp_path / "undisturbed", longer, N_LEARNERS)
    undisturbed.train(InlineExecutor())

    kept: dict[str, list[int]] = defaultdict(list)
    keep_state = PredictionCache.keep_state

    def keep(cache: PredictionCache, spec: LearnerSpec, key: str, state: bytes) -> None:
        keep_state(cache, spec, key, state)
        settings = load(state)["settings"].numpy().tobytes()
        kept[spec.name].append(json.loads(settings)["epoch"])

    train = LearnerJob.work.fget  # type: ignore[attr-defined]
    noted = property(lambda job: Noted(train(job), job.spec.name, tmp_path))
    monkeypatch.setattr(LearnerJob, "work", noted)
    monkeypatch.setattr(PredictionCache, "keep_state", keep)
    monkeypatch.setattr(learner, "_SECONDS_BETWEEN_STATES", 0.0)
    disturbed = Learners(splits, tmp_path / "disturbed", longer, N_LEARNERS)
    with killing(tmp_path / "workers", kills) as killed:
        disturbed.train(RayExecutor(lambda: pool))
    done_again = len(list((tmp_path / "epochs").iterdir())) - N_LEARNERS * n_epochs
    print(f"{len(killed)} workers killed, {done_again} epochs of {N_LEARNERS * n_epochs} again")
    same = bool(np.array_equal(disturbed.probs(), undisturbed.probs()))
    # An epoch whose report was on its way when its worker was lost is done again, a kept one never.
    once = list(kept.values()) == [list(range(1, n_epochs))] * N_LEARNERS
    tally(f"SIGKILL of workers, {len(killed)} in one training", same and once)
    assert len(killed) == kills
    for spec, key in zip(disturbed.specs, disturbed.keys, strict=True):
        expected = undisturbed.cache.weights(spec, key)
        for name, value in disturbed.cache.weights(spec, key).items():
            np.testing.assert_array_equal(value, expected[name])
