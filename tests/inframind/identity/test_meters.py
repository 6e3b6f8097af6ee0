"""Limits of tokens under concurrency, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from inframind.identity import meters, queries, services
from inframind.identity.caller import Caller
from inframind.identity.models import Meter, MeterHold, Wallet
from inframind.lib import bearer
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from inframind.lib.scopes import Caveat
from tests.database import conninfo, database

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
IFM = 10**18
pytestmark = pytest.mark.django_db(transaction=True)


def token(**limits: Any) -> str:
    return services.mint_token(
        wallet=Wallet.objects.of(ADDRESS),
        name="test",
        actions=["invoke"],
        lifetime=timedelta(hours=1),
        **limits,
    )[1]


def caller(**limits: Any) -> Caller:
    return queries.authenticate(token(**limits))


async def hold(who: Caller, call_id: UUID, fee: int = 0, ttl_seconds: float = 60) -> None:
    async with database() as opened:
        await meters.hold_on(opened, who, call_id, fee, ttl_seconds)


async def settle(who: Caller, call_id: UUID, *, served: bool = True, fee: int = 0) -> None:
    async with database() as opened:
        assert await settled(opened, who, call_id, served=served, fee=fee)


async def settled(
    opened: psycopg.AsyncConnection, who: Caller, call_id: UUID, *, served: bool, fee: int = 0
) -> bool:
    """Whether the call counts; rolled back where it does not."""
    ended = meters.Settlement(who.meters, call_id, served, fee)
    async with opened.transaction():
        if await meters.settle_on(opened, [ended]):
            raise psycopg.Rollback
        return True
    return False


def refusal(who: Caller, fee: int = 0) -> Problem:
    with pytest.raises(Problem) as caught:
        asyncio.run(hold(who, new_uuid7(), fee))
    return caught.value


def used(who: Caller) -> list[tuple[int, int]]:
    rows = Meter.objects.in_bulk(who.meters)
    return [(rows[pk].calls_used, int(rows[pk].spent_base_units)) for pk in who.meters]


async def many(
    calls: int, connections: int, work: Callable[[psycopg.AsyncConnection], Awaitable[bool]]
) -> int:
    """Runs ``calls`` at once over so many connections; how many came through."""
    async with AsyncExitStack() as stack:
        free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
        for _ in range(connections):
            free.put_nowait(await stack.enter_async_context(database()))

        async def one() -> bool:
            opened = await free.get()
            try:
                return await work(opened)
            finally:
                free.put_nowait(opened)

        return sum(await asyncio.gather(*(one() for _ in range(calls))))


def test_a_limit_of_10_calls_serves_exactly_10_of_50_at_once() -> None:
    who = caller(calls_limit=10)
    refusals: set[tuple[int, str, bool | None]] = set()

    async def call(opened: psycopg.AsyncConnection) -> bool:
        call_id = new_uuid7()
        try:
            await meters.hold_on(opened, who, call_id, 0, 60)
        except Problem as problem:
            refusals.add((problem.status, problem.code, problem.charged))
            return False
        await asyncio.sleep(0.005)
        return await settled(opened, who, call_id, served=True)

    assert asyncio.run(many(50, 10, call)) == 10
    assert refusals == {(402, "token-limit-reached", False)}
    assert used(who) == [(10, 0)]
    assert MeterHold.objects.count() == 0


def test_a_spend_limit_is_kept_to_the_last_base_unit() -> None:
    who = caller(spend_limit_base_units=10 * IFM - 1)

    async def call(opened: psycopg.AsyncConnection) -> bool:
        call_id = new_uuid7()
        try:
            await meters.hold_on(opened, who, call_id, IFM, 60)
        except Problem:
            return False
        return await settled(opened, who, call_id, served=True, fee=IFM)

    assert asyncio.run(many(50, 10, call)) == 9
    assert used(who) == [(9, 9 * IFM)]


def test_looking_before_counting_without_a_hold_would_overrun() -> None:
    """The negative control: the same 50 calls, checked as one would at first."""
    who = caller(calls_limit=10)
    (meter_id,) = who.meters
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE identity_meter DROP CONSTRAINT meter_calls_within_limit")
    try:
        looked: list[None] = []
        all_looked = asyncio.Event()

        async def call(opened: psycopg.AsyncConnection) -> bool:
            found = await opened.execute(
                "SELECT calls_used < calls_limit FROM identity_meter WHERE id = %s", [meter_id]
            )
            row = await found.fetchone()
            if row is None or not row[0]:
                return False
            looked.append(None)
            # The model runs meanwhile: no call counts before all ten connections have looked.
            if len(looked) == 10:
                all_looked.set()
            await all_looked.wait()
            await opened.execute(
                "UPDATE identity_meter SET calls_used = calls_used + 1 WHERE id = %s", [meter_id]
            )
            return True

        Meter.objects.update(calls_used=5)
        served = asyncio.run(many(50, 10, call))
        assert served >= 10
        assert Meter.objects.get(pk=meter_id).calls_used == 5 + served
    finally:
        Meter.objects.update(calls_used=0)
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE identity_meter ADD CONSTRAINT meter_calls_within_limit"
                " CHECK (calls_limit IS NULL OR calls_used <= calls_limit)"
            )


def test_the_database_itself_refuses_use_above_a_limit() -> None:
    who = caller(calls_limit=1, spend_limit_base_units=IFM)
    for overrun in ({"calls_used": 2}, {"spent_base_units": IFM + 1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Meter.objects.filter(pk__in=who.meters).update(**overrun)


def test_a_call_that_was_not_served_gives_its_place_back() -> None:
    who = caller(calls_limit=1, spend_limit_base_units=IFM)
    lost, served = new_uuid7(), new_uuid7()
    asyncio.run(hold(who, lost, IFM))
    assert refusal(who).extra["limit"] == {"kind": "calls", "limit": 1, "used": 0, "held": 1}
    asyncio.run(settle(who, lost, served=False))
    asyncio.run(hold(who, served, IFM))
    asyncio.run(settle(who, served, fee=IFM))
    assert used(who) == [(1, IFM)]


def test_a_call_counts_on_every_ancestor_and_the_tightest_decides() -> None:
    text = token(calls_limit=4)
    child = bearer.narrow(text, Caveat(calls_limit=3))
    grandchild = bearer.narrow(child, Caveat(calls_limit=2))
    youngest = queries.authenticate(grandchild)
    assert len(youngest.meters) == 3
    for _ in range(2):
        call_id = new_uuid7()
        asyncio.run(hold(youngest, call_id))
        asyncio.run(settle(youngest, call_id))
    assert used(youngest) == [(2, 0)] * 3
    assert refusal(youngest).detail.startswith("The limit of this token is 2 calls: 2 used.")
    call_id = new_uuid7()
    middle = queries.authenticate(child)
    asyncio.run(hold(middle, call_id))
    asyncio.run(settle(middle, call_id))
    sibling = queries.authenticate(bearer.narrow(child, Caveat(calls_limit=9)))
    found = refusal(sibling)
    assert found.detail == (
        "The limit of a token that this one comes from is 3 calls: 3 used. Nothing was charged."
    )
    assert MeterHold.objects.count() == 0


def test_a_hold_is_all_or_nothing() -> None:
    text = token(calls_limit=1)
    wide = queries.authenticate(bearer.narrow(text, Caveat(calls_limit=50)))
    asyncio.run(hold(wide, new_uuid7()))
    refusal(wide)
    assert MeterHold.objects.count() == 2


def test_a_spend_limit_says_what_is_spent_held_and_asked() -> None:
    who = caller(spend_limit_base_units=2 * IFM)
    spent, under_way = new_uuid7(), new_uuid7()
    asyncio.run(hold(who, spent, IFM))
    asyncio.run(settle(who, spent, fee=IFM))
    asyncio.run(hold(who, under_way, IFM))
    found = refusal(who, IFM)
    assert found.detail == (
        "The limit of this token is 2 IFM: 1 IFM spent and 1 IFM held by calls under way, and this "
        "call costs 1 IFM. Nothing was charged."
    )
    assert found.charged is False
    assert found.extra["limit"]["used"] == {"base_units": str(IFM), "text": "1 IFM"}
    asyncio.run(hold(who, new_uuid7(), 0))


_HOLDER = """
import asyncio, sys
from uuid import UUID
import psycopg
from inframind.identity import meters
from inframind.identity.caller import Caller
from inframind.lib.ids import new_uuid7

async def main():
    async with await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True) as opened:
        who = Caller("0x", meters=(UUID(sys.argv[2]),))
        await meters.hold_on(opened, who, new_uuid7(), 0, float(sys.argv[3]))
        print("held", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_hold_of_a_killed_process_comes_back_by_itself() -> None:
    who = caller(calls_limit=1)
    command = [sys.executable, "-c", _HOLDER, conninfo(), str(who.meters[0]), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
        finally:
            holder.kill()
    MeterHold.objects.update(expires_at=F("expires_at") + timedelta(minutes=10))
    assert refusal(who).extra["limit"] == {"kind": "calls", "limit": 1, "used": 0, "held": 1}
    MeterHold.objects.update(expires_at=F("expires_at") - timedelta(minutes=10))
    deadline = time.monotonic() + 60
    while True:
        try:
            asyncio.run(hold(who, new_uuid7()))
            break
        except Problem:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert MeterHold.objects.count() == 1


def test_a_call_that_outlived_its_hold_is_not_counted_as_served() -> None:
    who = caller(calls_limit=1)
    late, second = new_uuid7(), new_uuid7()
    asyncio.run(hold(who, late))
    MeterHold.objects.update(expires_at=F("expires_at") - timedelta(minutes=2))
    asyncio.run(hold(who, second))

    async def settle_late() -> bool:
        async with database() as opened:
            return await settled(opened, who, late, served=True)

    assert asyncio.run(settle_late()) is False
    assert used(who) == [(0, 0)]
    asyncio.run(settle(who, second))
    assert used(who) == [(1, 0)]


def test_one_statement_settles_calls_of_many_callers() -> None:
    text = token(calls_limit=100, spend_limit_base_units=100 * IFM)
    parent = queries.authenticate(text)
    children = [queries.authenticate(bearer.narrow(text, Caveat(calls_limit=9))) for _ in range(3)]
    callers = [parent, *children] * 3
    calls = [(who, new_uuid7(), number % 3 > 0) for number, who in enumerate(callers)]

    async def run() -> frozenset[UUID]:
        async with database() as opened:
            for who, call_id, _ in calls[:-1]:
                await meters.hold_on(opened, who, call_id, IFM, 60)
            ended = [
                meters.Settlement(who.meters, call_id, served, IFM if served else 0)
                for who, call_id, served in calls
            ]
            async with opened.transaction():
                return await meters.settle_on(opened, ended)

    # The last one was never held, and only that one is named.
    assert asyncio.run(run()) == {calls[-1][1]}
    assert used(parent) == [(7, 7 * IFM)]
    assert [used(child)[-1][0] for child in children] == [2, 2, 1]
    assert MeterHold.objects.count() == 0


def test_a_meter_that_is_gone_lets_nobody_through() -> None:
    who = Caller(ADDRESS, meters=(new_uuid7(),))
    assert refusal(who).status == 401


def test_chains_that_share_ancestors_never_wait_for_each_other_in_a_circle() -> None:
    text = token(calls_limit=1000)
    callers = [
        queries.authenticate(
            bearer.narrow(bearer.narrow(text, Caveat(calls_limit=900)), Caveat(calls_limit=900))
        )
        for _ in range(6)
    ]
    turn = iter(range(10_000))

    async def call(opened: psycopg.AsyncConnection) -> bool:
        number = next(turn)
        who, call_id = callers[number % 6], new_uuid7()
        await meters.hold_on(opened, who, call_id, 0, 60)
        await settled(opened, who, call_id, served=number % 3 > 0)
        return number % 3 > 0

    assert asyncio.run(many(120, 8, call)) == 80
    assert used(callers[0])[0] == (80, 0)
    assert MeterHold.objects.count() == 0


def test_a_rotated_token_goes_on_with_what_was_used() -> None:
    wallet = Wallet.objects.of(ADDRESS)
    old, text = services.mint_token(
        wallet=wallet, name="t", actions=["invoke"], lifetime=timedelta(hours=1), calls_limit=1
    )
    call_id = new_uuid7()
    who = queries.authenticate(text)
    asyncio.run(hold(who, call_id))
    asyncio.run(settle(who, call_id))
    _, successor = services.rotate_token(
        token_id=old.pk, wallet=wallet, overlap=timedelta(minutes=5)
    )
    assert refusal(queries.authenticate(successor)).code == "token-limit-reached"
