"""The errors whose message is one line for the user, and the checks of input."""

from __future__ import annotations

import math
from typing import get_args


class InvalidInputError(ValueError):
    """Something the user gave is unusable; the message is one line with the remedy."""


class RunFailedError(RuntimeError):
    """A run cannot continue though its input is valid; the message is one line with the reason."""


class DivergedError(RunFailedError):
    """A loss or a weight became NaN or infinite; raised on the worker that trains."""


def invalid(rule: str, found: str, remedy: str) -> InvalidInputError:
    """The error that names the rule (a noun phrase), what was found and the remedy in one line."""
    return InvalidInputError(f"expected {rule}, but got {found}: {remedy}")


def require(holds: bool, rule: str, value: object, remedy: str) -> None:
    """Raise InvalidInputError naming the rule, the value and the remedy unless `holds`."""
    if not holds:
        raise invalid(rule, repr(value), remedy)


def require_positive(name: str, value: float) -> None:
    """Raise InvalidInputError unless `value` is a finite number above zero."""
    require(
        _is_finite(value) and value > 0, f"0 < {name} < infinity", value, f"give a positive {name}"
    )


def require_non_negative(name: str, value: float) -> None:
    """Raise InvalidInputError unless `value` is zero or a finite number above it."""
    rule, remedy = f"0 <= {name} < infinity", f"give a {name} of 0 or more"
    require(_is_finite(value) and value >= 0, rule, value, remedy)


def require_fraction(name: str, value: float) -> None:
    """Raise InvalidInputError unless `value` is a number between zero and one, without these."""
    rule = f"0 < {name} < 1"
    require(_is_finite(value) and 0 < value < 1, rule, value, "give a fraction")


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def require_count(name: str, value: int) -> None:
    """Raise InvalidInputError unless `value` is a whole number of at least one."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    rule, remedy = f"a whole number {name} >= 1", f"give a {name} of 1 or more"
    require(whole and value >= 1, rule, value, remedy)


def require_choice(name: str, value: str, choices: object) -> None:
    """Raise InvalidInputError unless `value` is one of the choices of a Literal type."""
    known = get_args(choices)
    require(value in known, f"{name} in {known}", value, "choose one of these")
