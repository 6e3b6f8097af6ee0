"""The rule of how much a lease is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.ledger.leases import size_base_units


def size(
    available: int, *, waiting: int = 1, day_left: int | None = None, fee: int = 5, calls: int = 10
) -> int:
    return size_base_units(
        fee_base_units=fee,
        calls=calls,
        waiting=waiting,
        available_base_units=available,
        day_left_base_units=day_left,
    )


def test_a_rich_wallet_is_leased_a_number_of_calls() -> None:
    assert size(5 * 40) == 5 * 10
    assert size(5 * 40, waiting=100) == 5 * 10


def test_near_the_floor_the_calls_that_wait_are_leased_and_no_more() -> None:
    assert size(5 * 40 - 1) == 5
    assert size(5 * 40 - 1, waiting=7) == 5 * 7
    assert size(5 * 3 + 4, waiting=7) == 5 * 3


def test_near_the_days_limit_it_is_the_same() -> None:
    assert size(10_000, day_left=5 * 40) == 5 * 10
    assert size(10_000, day_left=5 * 40 - 1) == 5
    assert size(10_000, day_left=5 * 2, waiting=7) == 5 * 2


@pytest.mark.parametrize("available", [4, 0, -3])
def test_not_enough_for_one_call_is_nothing(available: int) -> None:
    assert size(available, waiting=7) == 0
    assert size(10_000, waiting=7, day_left=available) == 0


@pytest.mark.parametrize("asked", [{"fee": 0}, {"fee": -1}, {"calls": 0}, {"waiting": 0}])
def test_a_lease_for_nothing_is_a_mistake(asked: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        size(100, **asked)


@given(
    available=st.integers(-(10**30), 10**30),
    day_left=st.none() | st.integers(-(10**30), 10**30),
    fee=st.integers(1, 10**20),
    calls=st.integers(1, 64),
    waiting=st.integers(1, 500),
)
def test_it_never_gives_what_is_not_there_nor_refuses_what_is(
    available: int, day_left: int | None, fee: int, calls: int, waiting: int
) -> None:
    room = available if day_left is None else min(available, day_left)
    given_ = size(available, waiting=waiting, day_left=day_left, fee=fee, calls=calls)
    assert given_ % fee == 0
    assert 0 <= given_ <= max(room, 0)
    assert (given_ == 0) == (room < fee)
