"""Which cluster is joined, and what is reported where none answers."""

from __future__ import annotations

import pytest

from distcel.execute.address import chosen_address, require_answer
from distcel.experiment.errors import InvalidInputError


@pytest.mark.parametrize(
    ("flag", "variable", "chosen"),
    [
        (None, None, None),
        (None, "head:6379", "head:6379"),
        (None, "auto", "auto"),
        ("other:1", "head:6379", "other:1"),
        ("[::1]:6379", "head:6379", "[::1]:6379"),
        ("auto", "head:6379", "auto"),
        ("local", "head:6379", None),
    ],
)
def test_the_flag_goes_before_the_variable(
    flag: str | None, variable: str | None, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert chosen_address(flag) == (chosen, "--address" if flag else "RAY_ADDRESS")


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265", "head"])
def test_other_addresses_are_refused_by_the_name_of_what_has_them(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InvalidInputError, match=f"RAY_ADDRESS HOST:PORT .* got '{address}'"):
        chosen_address(None)


@pytest.mark.parametrize(
    ("address", "why"),
    [("nowhere.invalid:1", "nowhere.invalid"), ("127.0.0.1:1", "Connection refused")],
)
def test_an_address_where_nothing_answers_is_one_line(address: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"answers at --address.*{why}.*: start one") as at:
        require_answer(address, "--address")
    assert "\n" not in str(at.value)
