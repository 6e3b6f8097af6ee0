"""Funds in a process's hands: asked for seldom, kept no longer than they are used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from django.conf import settings

from billing.ledger.models import Lease
from marketplace.gateway import loop, purses

from . import money
from .money import FEE, GUEST

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    loop.stop()


def spent(calls: int) -> list[int]:
    """Spends so many calls one after another; what the wallet's leases hold, in calls."""

    async def run() -> None:
        purse = purses.Purses()
        for _ in range(calls):
            (await purse.take(GUEST, FEE, 5.0)).keep()

    loop.submit(run(), 60)
    return [int(each.amount_base_units) // FEE for each in Lease.objects.order_by("id")]


def test_leases_grow_while_they_are_spent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purses, "SPENT_SOON_SECONDS", 1_000.0)
    base = settings.LEASE_CALLS
    money.fund(GUEST, 100 * base * FEE)
    # What is idle goes back before more is asked for: the last one is all there is.
    assert spent(base + 2 * base + 1) == [4 * base]


def test_leases_stay_small_where_they_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purses, "SPENT_SOON_SECONDS", 0.0)
    base = settings.LEASE_CALLS
    money.fund(GUEST, 100 * base * FEE)
    assert spent(3 * base + 1) == [base]


def test_a_grown_lease_takes_no_more_than_a_quarter_of_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(purses, "SPENT_SOON_SECONDS", 1_000.0)
    base = settings.LEASE_CALLS
    money.fund(GUEST, 6 * base * FEE)
    # 32 of 192; of the 160 left not 64, but the one that waits; then 32 again.
    assert spent(base + 1) == [1]
    money.swept()
    assert spent(1) == [base]


def test_an_idle_purse_is_emptied_by_the_one_timer_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(purses, "IDLE_SECONDS", 0.3)
    money.fund(GUEST, 1_000 * FEE)

    async def run() -> tuple[bool, int, int]:
        purse = purses.Purse(GUEST)
        (await purse.take(FEE, 5.0)).give_back()
        timer = purse._idle
        for _ in range(20):
            (await purse.take(FEE, 5.0)).give_back()
        same = timer is not None and purse._idle is timer
        under_way = await purse.take(FEE, 5.0)
        await asyncio.sleep(0.7)
        held = len(purse._held)
        under_way.give_back()
        await asyncio.sleep(1.0)
        return same, held, len(purse._held)

    assert loop.submit(run(), 20) == (True, 1, 0)
    assert not Lease.objects.exists()
