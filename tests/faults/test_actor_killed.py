"""SIGKILL of base-learner actors at random moments of their epochs."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distcel.data.splits import Splits
from distcel.execute.jobs import Progress
from distcel.execute.pool import WorkerPool
from distcel.experiment.types import LearnerSpec
from distcel.train import fleet as fleet_module
from distcel.train.cache import TrainedLearner
from tests.train.test_fleet import EXPERIMENT, Launch, splits, watched  # noqa: F401

N_LEARNERS, N_EPOCHS = 4, 60


@contextmanager
def killing(actors: Path, kills: int) -> Iterator[list[int]]:
    """Kill now and then one of the processes whose numbers are file names in the folder."""
    over, moments, killed = threading.Event(), random.Random(0), list[int]()

    def kill_now_and_then() -> None:
        while len(killed) < kills and not over.wait(moments.uniform(0.2, 1.0)):
            for path in list(actors.iterdir())[:1]:
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
    splits: Splits,  # noqa: F811
    pool: WorkerPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Callable[[int, int], int],
    tally: Callable[[str, bool], None],
) -> None:
    def note(spec: LearnerSpec, event: Progress | TrainedLearner) -> None:
        actor = tmp_path / "actors" / str(os.getpid())
        if isinstance(event, Progress):
            (tmp_path / "epochs" / f"{spec.name}-{event.epoch}-{os.getpid()}").touch()
            actor.touch()  # from now on it may be killed: without an epoch, five deaths are enough
        else:
            actor.unlink(missing_ok=True)

    for name in ("actors", "epochs"):
        (tmp_path / name).mkdir()
    n_epochs = times(N_EPOCHS, 8 * N_EPOCHS)
    recipe = replace(EXPERIMENT.learner_recipe, epochs=n_epochs)
    longer = replace(EXPERIMENT, learner_recipe=recipe)
    undisturbed = Launch(splits, tmp_path / "undisturbed", pool, longer, N_LEARNERS)
    undisturbed.train()

    kept: dict[str, list[int]] = defaultdict(list)
    note_progress = fleet_module.Fleet._note

    def keep(fleet: fleet_module.Fleet, spec: LearnerSpec, key: str, progress: Progress) -> None:
        note_progress(fleet, spec, key, progress)
        if progress.state is not None:
            kept[spec.name].append(progress.epoch)

    monkeypatch.setattr(fleet_module.Fleet, "_note", keep)
    monkeypatch.setattr(fleet_module, "_SECONDS_BETWEEN_STATES", 0.0)
    monkeypatch.setattr(fleet_module, "BaseLearnerActor", watched(note))
    disturbed = Launch(splits, tmp_path / "disturbed", pool, longer, N_LEARNERS)
    kills = times(2, 20)
    with killing(tmp_path / "actors", kills) as killed:
        disturbed.train()
    done_again = len(list((tmp_path / "epochs").iterdir())) - N_LEARNERS * n_epochs
    print(f"{len(killed)} actors killed, {done_again} epochs of {N_LEARNERS * n_epochs} done again")
    same = bool(np.array_equal(disturbed.probs(), undisturbed.probs()))
    # An epoch whose report was on its way when its actor died is done again, a kept one never.
    once = list(kept.values()) == [list(range(1, n_epochs))] * N_LEARNERS
    tally(f"SIGKILL of actors, {len(killed)} in one training", same and once)
    assert len(killed) == kills
    for spec, key in zip(disturbed.specs, disturbed.keys, strict=True):
        expected = undisturbed.cache.weights(spec, key)
        for name, value in disturbed.cache.weights(spec, key).items():
            np.testing.assert_array_equal(value, expected[name])
