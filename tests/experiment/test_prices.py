"""The prices of answers, and what may be spent."""

from __future__ import annotations

import pytest

from distcel.experiment.errors import InvalidInputError
from distcel.experiment.prices import Prices


def test_a_budget_of_what_the_always_asked_cost_on_paper_is_enough() -> None:
    assert Prices((0.1, 0.2, 1.0), 2, budget=0.3).budget == 0.3  # their sum in floats is above
    assert Prices((0.0, 1.0), 1, budget=0.0).budget == 0
    with pytest.raises(InvalidInputError, match=r"budget >= 0\.3"):
        Prices((0.1, 0.2, 1.0), 2, budget=0.2999)


@pytest.mark.parametrize("price", [1e300, 1e-310, 1e13, 1e-13])
def test_a_price_that_float32_cannot_weigh_is_refused(price: float) -> None:
    with pytest.raises(InvalidInputError, match="in another unit"):
        Prices((0.0, price))
