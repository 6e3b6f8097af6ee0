"""Leases of a wallet's funds: taken, charged, ended, expired; limits of a day."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection

from billing.ledger import leases, queries, services
from billing.ledger import models as ledger
from billing.ledger.leases import Lease, OutOfFunds
from billing.ledger.tasks import sweep
from inframind.lib.problem import Problem
from tests.billing.ledger.books import (
    ADDRESS,
    OTHER,
    OTHER_WALLET,
    WALLET,
    give,
    posting,
    sums,
)
from tests.database import database

pytestmark = pytest.mark.django_db(transaction=True)


def take(
    fee: int = 1,
    *,
    wallet: str = ADDRESS,
    calls: int = 32,
    waiting: int = 1,
    ttl_seconds: float = 60,
) -> Lease:
    async def taken() -> Lease:
        async with database() as opened:
            return await leases.take_on(
                opened,
                wallet=wallet,
                process="test",
                fee_base_units=fee,
                calls=calls,
                waiting=waiting,
                ttl_seconds=ttl_seconds,
            )

    return asyncio.run(taken())


def charge(*charges: tuple[UUID, int]) -> set[UUID]:
    async def charged() -> set[UUID]:
        async with database() as opened, opened.transaction():
            return await leases.charge_on(opened, charges)

    return asyncio.run(charged())


def end(*ids: UUID) -> None:
    async def ended() -> None:
        async with database() as opened:
            await leases.end_on(opened, ids)

    asyncio.run(ended())


def refusal(**asked: Any) -> OutOfFunds:
    with pytest.raises(OutOfFunds) as caught:
        take(**asked)
    return caught.value


def age(lease: Lease) -> None:
    """Lets a lease's time be over."""
    ledger.Lease.objects.filter(pk=lease.id).update(expires_at="2020-01-01T00:00:00Z")


def set_account(assignments: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE ledger_account SET {assignments} WHERE code = %s", [WALLET])


def test_a_lease_is_charged_by_batches_and_gives_the_rest_back_at_its_end() -> None:
    give(ADDRESS, 1_000)
    lease = take(fee=5, calls=10)
    assert lease.amount_base_units == 50
    assert charge((lease.id, 20), (lease.id, 5), (uuid4(), 1)) == {lease.id}
    assert sums(WALLET) == (1_000, 0, 50, 0)
    end(lease.id, uuid4())
    end(lease.id)
    assert sums(WALLET) == (1_000, 0, 0, 25)
    assert charge((lease.id, 1)) == set()


def test_a_lease_takes_all_of_a_batch_or_nothing_and_others_of_the_batch_are_not_touched() -> None:
    give(ADDRESS, 1_000)
    give(OTHER, 1_000)
    small, large = take(fee=5, calls=2), take(wallet=OTHER, calls=10)
    assert charge((small.id, 6), (large.id, 3), (small.id, 5)) == {large.id}
    assert ledger.Lease.objects.get(pk=small.id).spent_base_units == 0
    assert charge((small.id, 10)) == {small.id}
    assert charge() == set()


def test_an_expired_lease_takes_nothing_before_anybody_brought_it_back() -> None:
    give(ADDRESS, 10)
    lease = take()
    charge((lease.id, 1))
    lease = take()
    age(lease)
    assert charge((lease.id, 1)) == set()


def test_without_the_guard_an_expired_lease_would_be_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    give(ADDRESS, 10)
    lease = take()
    age(lease)
    guard = "AND lease.expires_at > moment"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_functiondef('ledger_charge(uuid[], numeric[])'::regprocedure)"
        )
        [guarded] = cursor.fetchone()
        assert guard in guarded
        unguarded = guarded.replace(guard, "").replace("ledger_charge", "unguarded_charge")
        cursor.execute(unguarded)
    monkeypatch.setattr(leases, "_CHARGE", leases._CHARGE.replace("ledger_", "unguarded_"))
    try:
        assert charge((lease.id, 1)) == {lease.id}
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION unguarded_charge")


def test_the_next_lease_of_the_account_brings_back_the_expired_ones() -> None:
    give(ADDRESS, 10)
    lost = take(fee=5, waiting=2)
    assert lost.amount_base_units == 10
    charge((lost.id, 5))
    assert refusal(fee=5).under_way_base_units == 5
    age(lost)
    again = take(fee=5, waiting=2)
    assert again.amount_base_units == 5
    assert sums(WALLET) == (10, 0, 5, 5)


def test_the_sweep_brings_back_leases_and_holds_of_every_account_once() -> None:
    give(ADDRESS, 1_000)
    give(OTHER, 1_000)
    gone = [take(), take(), take(wallet=OTHER)]
    stays = take()
    charge((gone[0].id, 3), (gone[2].id, 4), (stays.id, 1))
    for lease in gone:
        age(lease)
    assert leases.sweep() == 3
    assert leases.sweep() == 0
    sweep()
    assert sums(WALLET) == (1_000, 0, 32, 3)
    assert sums(OTHER_WALLET) == (1_000, 0, 0, 4)


def test_a_wallet_without_account_is_out_of_funds() -> None:
    refused = refusal()
    assert (refused.status, refused.code, refused.charged) == (402, "insufficient-funds", False)
    assert refused.balance_base_units == 0


def test_a_refusal_tells_the_price_the_balance_and_what_is_under_way() -> None:
    give(ADDRESS, 10)
    take(fee=4, waiting=2)
    refused = refusal(fee=4)
    assert refused.extra["price"]["base_units"] == "4"
    assert refused.extra["balance"]["base_units"] == "10"
    assert refused.extra["available"]["base_units"] == "2"
    assert refused.extra["under_way"]["base_units"] == "8"
    assert refused.extra["top_up"] == "/account/balance"
    assert "day_limit" not in refused.extra


def test_what_is_held_is_not_leased() -> None:
    give(ADDRESS, 10)
    services.hold([services.HoldRequest(uuid4(), WALLET, "chain", 8, ledger.Reason.WITHDRAWAL)])
    assert take(waiting=5).amount_base_units == 2
    assert refusal().available_base_units == 0


def test_what_is_leased_cannot_be_moved_away() -> None:
    give(ADDRESS, 10)
    take(waiting=8)
    with pytest.raises(services.InsufficientFunds):
        services.post([posting(WALLET, "treasury", 3)])
    assert services.post([posting(WALLET, "treasury", 2)]) == 1


def test_an_epoch_posts_what_a_live_lease_has_spent() -> None:
    give(ADDRESS, 10)
    lease = take(waiting=6)
    charge((lease.id, 4))
    services.post([posting(WALLET, "epoch:1", 4)], charged=True)
    assert sums(WALLET) == (6, 0, 6, -4)
    assert queries.balance_of(ADDRESS) == queries.Balance(6, 4, 0, 2, 0, None, 6)
    end(lease.id)
    assert sums(WALLET) == (6, 0, 0, 0)


def test_a_days_limit_is_spent_exactly_and_what_comes_back_counts_no_more() -> None:
    give(ADDRESS, 1_000)
    services.set_day_limit(ADDRESS, 10)
    lease = take(fee=3, waiting=9)
    assert lease.amount_base_units == 9
    refused = refusal(fee=3)
    assert (refused.code, refused.by_day_limit) == ("day-limit-reached", True)
    assert refused.extra["day_limit"]["base_units"] == "10"
    assert refused.extra["day_used"]["base_units"] == "9"
    charge((lease.id, 3))
    end(lease.id)
    assert queries.balance_of(ADDRESS).day_used_base_units == 3
    assert take(fee=3, waiting=9).amount_base_units == 6
    services.set_day_limit(ADDRESS, None)
    assert take(fee=3, calls=5, waiting=9).amount_base_units == 15


def test_a_limit_below_what_is_used_already_refuses_and_zero_refuses_all() -> None:
    give(ADDRESS, 1_000)
    take(fee=3, calls=5)
    services.set_day_limit(ADDRESS, 7)
    assert refusal(fee=3).by_day_limit
    services.set_day_limit(OTHER, 0)
    give(OTHER, 5)
    assert refusal(wallet=OTHER).by_day_limit


@pytest.mark.parametrize("limit", [-1, 2**256])
def test_a_limit_that_is_no_amount_is_refused(limit: int) -> None:
    with pytest.raises(Problem) as caught:
        services.set_day_limit(ADDRESS, limit)
    assert caught.value.status == 400


def test_a_new_day_has_its_own_limit_and_old_leases_give_nothing_back_to_it() -> None:
    give(ADDRESS, 1_000)
    services.set_day_limit(ADDRESS, 10)
    old = take(waiting=10)
    set_account("day = day - 1")
    ledger.Lease.objects.update(day="2020-01-01")
    assert queries.balance_of(ADDRESS).day_used_base_units == 0
    new = take(waiting=4)
    assert new.amount_base_units == 4
    end(old.id)
    assert queries.balance_of(ADDRESS).day_used_base_units == 4


def test_a_clock_that_is_set_back_gives_no_second_limit() -> None:
    give(ADDRESS, 1_000)
    services.set_day_limit(ADDRESS, 10)
    take(waiting=10)
    set_account("day = day + 1")
    assert refusal().by_day_limit


def test_a_balance_is_leased_to_the_last_call_that_it_pays() -> None:
    give(ADDRESS, 7)
    assert [take(fee=2, calls=1).amount_base_units for _ in range(3)] == [2, 2, 2]
    assert refusal(fee=2).available_base_units == 1


def test_amounts_of_any_length_are_exact() -> None:
    give(ADDRESS, 10**60 + 7)
    services.set_day_limit(ADDRESS, 10**40 + 3)
    assert take(fee=10**40, calls=1).amount_base_units == 10**40
    assert take(fee=1, calls=1, waiting=9).amount_base_units == 3
    assert refusal().day_used_base_units == 10**40 + 3
    with pytest.raises(services.InsufficientFunds) as caught:
        services.post([posting(WALLET, "treasury", 10**60)])
    assert caught.value.available_base_units == 10**60 + 7 - 10**40 - 3
