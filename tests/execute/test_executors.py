"""Every executor runs and keeps jobs; the one on Ray survives lost workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from distcel.execute import ray_run
from distcel.execute.cluster import cluster_pool
from distcel.execute.inline import InlineExecutor
from distcel.execute.jobs import Executor, Failed, Job, Progress, Work
from distcel.execute.pool import WorkerPool
from distcel.execute.ray_executor import RayExecutor
from distcel.experiment.errors import DivergedError, RunFailedError

ONE = WorkerPool(1, 1.0, 0.0)


@dataclass(frozen=True)
class Counting:
    """Counts from its state to three, an epoch a number, and returns a text about the attempt.

    Attributes:
        folder: where `title-begun` gets a letter an attempt.
        title: the title of the job.
        fault: how the first attempts fail: see `_fail`.
        times: how many attempts fail.
    """

    folder: Path
    title: str
    fault: str = ""
    times: int = 0

    def __call__(
        self, shared: Any, device: torch.device, state: bytes | None
    ) -> Iterator[Progress | str]:
        begun = self.folder / f"{self.title}-begun"
        attempt = len(begun.read_text()) + 1 if begun.exists() else 1
        begun.write_text("x" * attempt)
        if self.fault == "killed at once" and attempt <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        epochs = []
        for epoch in range(int(state or b"0") + 1, 4):
            epochs.append(epoch)
            if epoch == 2 and attempt <= self.times and self.fault != "after its result":
                self._fail()
            yield Progress(epoch, 0.5, str(epoch).encode() if epoch < 3 else None)
        context = os.getpid(), torch.get_num_threads(), device.type
        yield f"{shared} epochs {epochs} attempt {attempt} threads {context[1]}"
        if attempt <= self.times and self.fault == "after its result":
            self._wait_for(f"{self.title}.result")
            os.kill(os.getpid(), signal.SIGKILL)

    def _fail(self) -> None:
        if self.fault == "hangs":
            self._wait_for("nothing")
        if self.fault == "killed":
            self._wait_for(f"{self.title}.state")  # until the driver has kept the first epoch's
            os.kill(os.getpid(), signal.SIGKILL)
        errors = {
            "diverged": DivergedError("the loss became nan"),
            "memory": ray.exceptions.OutOfMemoryError("low on memory"),  # as the driver gets it
            "gpu": torch.OutOfMemoryError("CUDA out of memory"),
            "object": ray.exceptions.ObjectFetchTimedOutError("00" * 28, None, ""),
            "defect": ZeroDivisionError("a defect"),
        }
        raise errors[self.fault]

    def _wait_for(self, name: str) -> None:
        while not (self.folder / name).exists():
            time.sleep(0.01)


@dataclass(frozen=True)
class FileJob:
    """A job whose state and result are files."""

    work: Counting | Any
    folder: Path
    title: str
    events: list[str] = field(default_factory=list)

    def is_kept(self) -> bool:
        return (self.folder / f"{self.title}.result").exists()

    def state(self) -> bytes | None:
        path = self.folder / f"{self.title}.state"
        return path.read_bytes() if path.exists() else None

    def keep_state(self, state: bytes) -> None:
        (self.folder / f"{self.title}.state").write_bytes(state)

    def keep(self, result: str | Failed) -> None:
        text = f"failed: {result.reason}" if isinstance(result, Failed) else result
        (self.folder / f"{self.title}.result").write_text(text)

    def result(self) -> str:
        return (self.folder / f"{self.title}.result").read_text()


def job(folder: Path, title: str, fault: str = "", times: int = 0) -> FileJob:
    return FileJob(Counting(folder, title, fault, times), folder, title)


def attempts(folder: Path, title: str) -> int:
    return len((folder / f"{title}-begun").read_text())


@pytest.fixture(params=["inline", "ray"])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "inline":
        return InlineExecutor()
    return RayExecutor(lambda: request.getfixturevalue("pool"))


def test_every_job_is_run_once_on_one_thread_and_kept(executor: Executor, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    jobs = [job(tmp_path, title) for title in "abc"]
    (tmp_path / "b.result").write_text("kept before")
    (tmp_path / "c.state").write_bytes(b"2")
    shared = executor.share("data")
    assert executor.run(jobs, shared, "base learner") == 2
    assert executor.run(jobs, shared, "base learner") == 0
    assert [one.result() for one in jobs] == [
        "data epochs [1, 2, 3] attempt 1 threads 1",
        "kept before",
        "data epochs [3] attempt 1 threads 1",
    ]
    assert torch.get_num_threads() == threads


def test_a_job_that_diverges_comes_back_as_failed_and_the_others_are_kept(
    executor: Executor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "distcel")
    jobs = [job(tmp_path, "bad", "diverged", 9), job(tmp_path, "good")]
    assert executor.run(jobs, executor.share("data"), "rule", at_once=1) == 2
    assert jobs[0].result() == "failed: the loss became nan"
    assert jobs[1].result().startswith("data epochs [1, 2, 3]")
    # A slow machine has lines of epochs as well.
    done = [m.partition(":")[0] for m in caplog.messages if m.startswith("rule ")]
    assert done == ["rule 1/2 bad", "rule 2/2 good"]


def test_a_job_that_the_run_cant_do_without_ends_it(executor: Executor, tmp_path: Path) -> None:
    class Needed(FileJob):
        def keep(self, result: str | Failed) -> None:
            raise RunFailedError(f"needed: {result}")

    needed = Needed(Counting(tmp_path, "needed", "diverged", 9), tmp_path, "needed")
    with pytest.raises(RunFailedError, match="needed: "):
        executor.run([needed], executor.share("data"), "base learner")


def test_a_defect_comes_with_its_traceback(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises((ZeroDivisionError, ray.exceptions.RayTaskError), match="a defect"):
        executor.run([job(tmp_path, "bad", "defect", 1)], executor.share("data"), "rule")


def test_a_worker_that_hangs_is_named_and_replaced_and_no_result_comes_twice(
    pool: WorkerPool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(ray_run, "_LEAST_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(ray_run, "_SILENT_EPOCHS", 1)
    kept: list[str] = []

    class Noted(FileJob):
        def keep(self, result: str | Failed) -> None:
            kept.append(self.title)
            super().keep(result)

    jobs = [Noted(Counting(tmp_path, t, "hangs", n), tmp_path, t) for t, n in (("a", 1), ("b", 0))]
    executor = RayExecutor(lambda: pool)
    executor.run(jobs, executor.share("data"), "rule")
    assert jobs[0].result().startswith("data epochs [2, 3] attempt 2")
    assert sorted(kept) == ["a", "b"]
    # On a busy machine the other one may be silent for half a second as well.
    silence = f"a: its worker on node {ray.util.get_node_ip_address()}, "
    assert [line.startswith(silence) for line in caplog.messages].count(True) == 1
    assert "a: worker lost, another one takes its place" in caplog.messages


@pytest.mark.parametrize(("fault", "epochs"), [("killed", "[2, 3]"), ("object", "[2, 3]")])
def test_a_job_whose_worker_is_lost_resumes_from_its_last_kept_state(
    fault: str, epochs: str, pool: WorkerPool, tmp_path: Path
) -> None:
    executor, lost = RayExecutor(lambda: ONE), job(tmp_path, "lost", fault, 1)
    executor.run([lost], executor.share("data"), "rule")
    assert lost.result().startswith(f"data epochs {epochs} attempt 2")


def test_a_worker_that_is_lost_after_its_result_is_replaced_and_nothing_is_run_again(
    pool: WorkerPool, tmp_path: Path
) -> None:
    executor = RayExecutor(lambda: ONE)
    jobs = [job(tmp_path, "first", "after its result", 1), job(tmp_path, "second")]
    executor.run(jobs, executor.share("data"), "rule")
    assert [attempts(tmp_path, title) for title in ("first", "second")] == [1, 1]


def test_a_job_that_loses_workers_over_and_over_ends_the_run_when_the_others_are_kept(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_run, "MAX_LOSSES", 2)
    executor = RayExecutor(lambda: pool)
    deadly, healthy = job(tmp_path, "deadly", "killed at once", 99), job(tmp_path, "healthy")
    with pytest.raises(RunFailedError, match="deadly: worker lost 2 times, the last time: "):
        executor.run([deadly, healthy], executor.share("data"), "rule")
    assert attempts(tmp_path, "deadly") == 2
    assert healthy.is_kept()


class Unreadable:
    """Shared data that no worker can load, as where what they need is not installed there."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_workers_that_never_start_end_the_run(pool: WorkerPool, tmp_path: Path) -> None:
    executor = RayExecutor(lambda: pool)
    jobs = [job(tmp_path, "first"), job(tmp_path, "second")]
    with pytest.raises(RunFailedError, match="start of a worker, rule: worker lost"):
        executor.run(jobs, executor.share(Unreadable()), "rule")
    assert not any(one.is_kept() for one in jobs)


def test_a_new_state_makes_up_for_a_lost_worker(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_run, "MAX_LOSSES", 2)

    def lost_after_each_state(shared: Any, device: torch.device, state: bytes | None) -> Any:
        reached = int(state or b"0")
        if reached < 3:
            yield Progress(reached + 1, 0.5, str(reached + 1).encode())
            path = tmp_path / "patient.state"
            while not (path.exists() and path.read_bytes() == str(reached + 1).encode()):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        yield f"{shared} after {reached} states"

    patient = FileJob(lost_after_each_state, tmp_path, "patient")
    executor = RayExecutor(lambda: ONE)
    executor.run([patient], executor.share("data"), "rule")
    assert patient.result() == "data after 3 states"


@pytest.mark.parametrize("n_workers", [1, 2])
def test_want_of_memory_costs_a_worker_unless_it_is_the_last(
    n_workers: int, pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = RayExecutor(lambda: WorkerPool(n_workers, 1.0, 0.0))
    jobs = [job(tmp_path, "greedy", "memory", 1)]
    jobs += [job(tmp_path, f"{i}") for i in range(4)]
    executor.run(jobs, executor.share("data"), "rule")
    assert all(one.is_kept() for one in jobs)
    assert attempts(tmp_path, "greedy") == 2
    assert executor.n_actors["rule"] == 2


def test_a_full_gpu_is_one_line_with_the_remedy_after_the_others(
    pool: WorkerPool, tmp_path: Path
) -> None:
    executor, other = RayExecutor(lambda: ONE), job(tmp_path, "other")
    with pytest.raises(RunFailedError, match="large: its GPU has too little memory: give a larger"):
        executor.run([job(tmp_path, "large", "gpu", 9), other], executor.share("data"), "rule")
    assert other.is_kept()


def test_workers_and_their_calls_bear_names_and_hold_their_share_of_a_gpu(
    pool: WorkerPool, tmp_path: Path
) -> None:
    def note(title: str, *_: Any) -> Iterator[str]:
        context = ray.get_runtime_context()
        names = f"{context.get_actor_name()} {context.get_task_name() == title}"
        time.sleep(0.3)  # so that both workers get some
        yield f"{names} GPU {ray.get_gpu_ids()}"

    def jobs(folder: Path) -> list[FileJob]:
        folder.mkdir()
        return [FileJob(partial(note, f"{i}"), folder, f"{i}") for i in range(8)]

    on_gpus = cluster_pool(0.6)
    assert on_gpus == WorkerPool(2, 1.0, 0.6)  # not three: a share is never of two GPUs
    executor, first = RayExecutor(lambda: on_gpus), jobs(tmp_path / "first")
    executor.run(first, executor.share(None), "base learner")
    where = {one.result() for one in first}
    assert {text[-3:] for text in where} == {"[0]", "[1]"}
    assert {text[:-8] for text in where} == {"base-learners-1 True", "base-learners-2 True"}


def test_workers_for_which_there_is_no_room_are_not_waited_for(
    pool: WorkerPool, tmp_path: Path
) -> None:
    # Two cores: of five workers two start, as on a cluster that is busy with something else.
    executor = RayExecutor(lambda: WorkerPool(5, 1.0, 0.0))
    jobs = [job(tmp_path, f"{i}") for i in range(6)]
    assert executor.run(jobs, executor.share("data"), "rule") == 6


def test_a_run_that_fails_leaves_no_worker_behind(pool: WorkerPool, tmp_path: Path) -> None:
    executor = RayExecutor(lambda: pool)
    with pytest.raises(ray.exceptions.RayTaskError):
        executor.run([job(tmp_path, "bad", "defect", 1)], executor.share("data"), "rule")
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources().get("CPU") == 2


def protocols(job: Job, work: Work, inline: InlineExecutor, on_ray: RayExecutor) -> list[Executor]:
    """Mypy finds here what does not fit its protocol."""
    del job, work
    return [inline, on_ray]


def file_job_is_a_job(one: FileJob) -> Job:
    return one
