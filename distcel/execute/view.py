"""What is known of a run while it goes on, from the events of its log."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from distcel.execute.progress import (
    Address,
    Event,
    RunBegan,
    SearchBegan,
    StageBegan,
    Training,
    TrainingEnded,
    Trial,
    short_point,
)

SEARCH = "trials"  # the name of the stage of the trials


@dataclass(frozen=True)
class Stage:
    """A stage of the run; times are those of `time.monotonic`.

    Attributes:
        name: such as `base learners`.
        n: number of its trainings or trials; 0 if it has none.
        done: how many of them are done.
        kept: how many of these earlier launches have left.
        began: when it began.
        last: when the last one ended.
        latest: when it has to end, by a time budget.
    """

    name: str
    n: int
    done: int
    kept: int
    began: float
    last: float
    latest: float = math.inf

    def seconds_left(self, now: float) -> float | None:
        """How long the others will take at this rate; None before the first one is done."""
        if self.done == self.kept or self.done >= self.n:
            return None
        each = (self.last - self.began) / (self.done - self.kept)
        return max(0.0, min(self.last + each * (self.n - self.done), self.latest) - now)


@dataclass(frozen=True)
class View:
    """A run as it is now.

    Attributes:
        began: when the command began.
        title: of the run; empty before its data have been read.
        stages: the stages so far, the current one last.
        training: the epoch of each training of the current stage, by title.
        trials: the trials of the current search, by number.
        max_epochs: epochs of a trial that is not stopped early.
        addresses: where the run can be watched, by name.
    """

    began: float
    title: str = ""
    stages: tuple[Stage, ...] = ()
    training: Mapping[str, int] = field(default_factory=dict)
    trials: Mapping[int, Trial] = field(default_factory=dict)
    max_epochs: int = 0
    addresses: Mapping[str, str] = field(default_factory=dict)

    def after(self, event: Event, now: float) -> View:
        """The run after an event."""
        match event:
            case RunBegan(title, _, _):
                return View(self.began, title, addresses=self.addresses)
            case StageBegan(name, n, done):
                return self._at(Stage(name, n, done, done, now, now))
            case SearchBegan(n, max_epochs, seconds, trials):
                stage = Stage(SEARCH, n, len(trials), len(trials), now, now, now + seconds)
                by_number = {trial.number: trial for trial in trials}
                return replace(self._at(stage), trials=by_number, max_epochs=max_epochs)
            case Training(title, epoch, _):
                return replace(self, training={**self.training, title: epoch})
            case TrainingEnded(title, is_kept):
                training = {name: e for name, e in self.training.items() if name != title}
                return replace(self, training=training)._with_done(int(is_kept), now)
            case Trial(number):
                view = replace(self, trials={**self.trials, number: event})
                searching = bool(view.stages) and view.stages[-1].name == SEARCH
                more = len(view.ended()) - len(self.ended()) if searching else 0
                return view._with_done(more, now)
            case Address(name, where):
                return replace(self, addresses={**self.addresses, name: where})

    def _at(self, stage: Stage) -> View:
        earlier = tuple(one for one in self.stages if one.name != stage.name)
        return replace(self, stages=(*earlier, stage), training={})

    def _with_done(self, more: int, now: float) -> View:
        if not more or not self.stages:
            return self
        *earlier, stage = self.stages
        return replace(self, stages=(*earlier, replace(stage, done=stage.done + more, last=now)))

    def ended(self) -> list[Trial]:
        """The trials that are complete or have failed."""
        return [trial for trial in self.trials.values() if trial.state != "RUNNING"]

    def counts(self) -> dict[str, int]:
        """How many trials are running, were stopped early and have failed."""
        trials = self.trials.values()
        complete = [trial for trial in trials if trial.state == "COMPLETE"]
        return {
            "running": sum(trial.state == "RUNNING" for trial in trials),
            "stopped": sum(trial.n_epochs < self.max_epochs for trial in complete),
            "failed": sum(trial.state == "FAILED" for trial in trials),
        }

    def best(self) -> Trial | None:
        """The complete trial with the highest accuracy on valid, the earliest of equals."""
        complete = [trial for trial in self.trials.values() if trial.state == "COMPLETE"]
        return max(complete, key=lambda t: (t.valid_accuracy or 0.0, -t.number), default=None)


def described(trial: Trial) -> str:
    """A trial that has ended: accuracy on valid, number and point."""
    accuracy, point = trial.valid_accuracy, short_point(trial.point)
    return f"valid {accuracy:.4f}, trial {trial.number}: {point}"
