"""What a trial is: its point of the search space, how it stands and what each epoch measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distcel.experiment.errors import require, require_choice, require_count, require_non_negative
from distcel.experiment.types import SelectionParams

TrialState = Literal["RUNNING", "COMPLETE", "FAILED"]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch of a trial measured.

    Attributes:
        epoch: counted from 1.
        train_loss: mean cross entropy in nats.
        valid_loss: the same on the valid split.
        valid_accuracy: fraction of the valid split.
        seconds: that it took.
        ended_ms: when it ended, in milliseconds since 1970, on the worker's clock.
    """

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    seconds: float
    ended_ms: int

    def __post_init__(self) -> None:
        require_count("epoch", self.epoch)
        require_count("ended_ms", self.ended_ms)
        for name in ("train_loss", "valid_loss", "valid_accuracy", "seconds"):
            require_non_negative(name, getattr(self, name))
        accuracy = self.valid_accuracy
        require(accuracy <= 1, "valid_accuracy <= 1", accuracy, "give a fraction")


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the run directory keeps it; `state` is RUNNING, COMPLETE or FAILED."""

    number: int
    params: SelectionParams
    state: TrialState
    epochs: tuple[EpochResult, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        whole = type(self.number) is int and self.number >= 0
        require(whole, "a whole number >= 0 as a trial's", self.number, "give its number")
        require(isinstance(self.reason, str), "a reason in words", self.reason, "give a text")
        require_choice("state", self.state, TrialState)
        epochs = [result.epoch for result in self.epochs]
        in_order = epochs == list(range(1, len(epochs) + 1))
        require(in_order, "epochs in their order", epochs, "give every epoch once")
        ended = self.state != "COMPLETE" or bool(epochs)
        require(ended, "an epoch of a trial that is complete", epochs, "give it")

    @property
    def seconds(self) -> float:
        """That its epochs took, on its worker."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def valid_accuracy(self) -> float:
        """Accuracy on the valid split after the last epoch that ran."""
        return self.epochs[-1].valid_accuracy
