"""What asking a predictor costs, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass

from distcel.experiment.errors import require, require_non_negative

# Beyond these, products of prices and lambda overflow or vanish in float32.
_LEAST_PRICE, _HIGHEST_PRICE = 1e-12, 1e12
# Sums of decimal prices may be above what they sum to on paper, as 0.1 + 0.2 is.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Prices:
    """The prices of n learners' answers, in any one unit.

    Attributes:
        of_learners: the price of an answer of each learner, n numbers.
        n_always: the number of learners, the first ones, that are asked for every sample.
        budget: the highest mean price of a sample; None sets no limit.
    """

    of_learners: tuple[float, ...]
    n_always: int = 0
    budget: float | None = None

    def __post_init__(self) -> None:
        for price in self.of_learners:
            require_non_negative("price", price)
            usable = price == 0 or _LEAST_PRICE <= price <= _HIGHEST_PRICE
            rule = f"prices of 0, or from {_LEAST_PRICE:g} to {_HIGHEST_PRICE:g}"
            require(usable, rule, price, "give prices and budget in another unit")
        n = len(self.of_learners)
        rule = "a predictor that is not always asked, of which one can choose"
        require(0 <= self.n_always < n, rule, f"{self.n_always} of {n} always", "leave one out")
        if self.budget is not None:
            least = sum(self.of_learners[: self.n_always])
            rule = f"a budget >= {least:g}, the price of those that are always asked"
            enough = self.budget >= least * (1 - _ROUNDING)
            require(enough, rule, self.budget, "give a larger one")

    @property
    def weight_range(self) -> tuple[float, float]:
        """The range of the weight of price, lambda, in accuracy a unit of price.

        At its upper end the cheapest learner would have to be worth a whole correct answer; at its
        lower end the dearest one less than a hundredth of it. 1 and 1 if nothing has a price.
        """
        positive = [price for price in self.of_learners[self.n_always :] if price > 0] or [1.0]
        return 0.003 / max(positive), 1.0 / min(positive)


@dataclass(frozen=True)
class PriceWeight:
    """The weight of price, lambda, in accuracy a unit of price.

    It is `low` for a share of the samples and `high` for the others, so that the mean price can be
    any between those of the two. A hash of what the selection net sees decides which one a sample
    has, so that the same sample always has the same.
    """

    high: float
    low: float
    share_of_low: float
