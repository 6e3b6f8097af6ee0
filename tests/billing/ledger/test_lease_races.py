"""Leases when many want them at once, on several connections to a real PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection

from billing.ledger import leases, queries, services
from billing.ledger import models as ledger
from billing.ledger.leases import OutOfFunds
from tests.billing.ledger.books import (
    ADDRESS,
    OTHER,
    OTHER_WALLET,
    WALLET,
    give,
    posting,
    sums,
)
from tests.database import conninfo, database

pytestmark = pytest.mark.django_db(transaction=True)

Work = Callable[[psycopg.AsyncConnection], Awaitable[bool]]
CONNECTIONS = 12


async def many(calls: int, work: Work, search_path: str = "public") -> int:
    """Does ``work`` so often at once over a dozen connections; how often it came through."""
    async with AsyncExitStack() as stack:
        free: asyncio.Queue[psycopg.AsyncConnection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            opened = await stack.enter_async_context(database())
            await opened.execute(f"SET search_path TO {search_path}")
            free.put_nowait(opened)

        async def one() -> bool:
            opened = await free.get()
            try:
                return await work(opened)
            finally:
                free.put_nowait(opened)

        return sum(await asyncio.gather(*(one() for _ in range(calls))))


async def call(opened: psycopg.AsyncConnection) -> bool:
    """One call that costs 1, as a process of its own would make it."""
    try:
        lease = await leases.take_on(
            opened,
            wallet=ADDRESS,
            process="test",
            fee_base_units=1,
            calls=32,
            waiting=1,
            ttl_seconds=60,
        )
    except OutOfFunds:
        return False
    await asyncio.sleep(0.002)
    async with opened.transaction():
        took = await leases.charge_on(opened, [(lease.id, 1)])
    return took == {lease.id}


@pytest.fixture
def unguarded() -> Iterator[str]:
    """A search path to copies of the tables that no constraint and no trigger watches."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA unguarded")
        for table in ("ledger_account", "ledger_lease"):
            cursor.execute(f"CREATE TABLE unguarded.{table} (LIKE {table} INCLUDING DEFAULTS)")
        give(ADDRESS, 10)
        cursor.execute("INSERT INTO unguarded.ledger_account SELECT * FROM ledger_account")
    yield "unguarded, public"
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA unguarded CASCADE")


def test_200_calls_at_once_on_a_balance_for_10_are_served_10_times() -> None:
    give(ADDRESS, 10)
    assert asyncio.run(many(200, call)) == 10
    assert queries.balance_of(ADDRESS).balance_base_units == 0
    assert leases.sweep() == 0
    ledger.Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    assert leases.sweep() == 10
    assert sums(WALLET) == (10, 0, 0, 10)


def test_a_days_limit_of_10_serves_10_of_200_at_once() -> None:
    give(ADDRESS, 10_000)
    services.set_day_limit(ADDRESS, 10)
    assert asyncio.run(many(200, call)) == 10
    assert queries.balance_of(ADDRESS).day_used_base_units == 10


def test_it_is_the_lock_that_keeps_them_at_10(unguarded: str) -> None:
    assert asyncio.run(many(200, call, unguarded)) == 10


def test_without_the_lock_more_are_served_than_are_paid_for(
    unguarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = "FOR NO KEY UPDATE"
    assert lock in leases._LOCK_ACCOUNT
    monkeypatch.setattr(leases, "_LOCK_ACCOUNT", leases._LOCK_ACCOUNT.replace(lock, ""))
    assert asyncio.run(many(200, call, unguarded)) > 10


def test_calls_that_fail_leave_their_funds_to_others() -> None:
    give(ADDRESS, 10)
    failures = iter([True, False] * 1_000)

    async def sometimes(opened: psycopg.AsyncConnection) -> bool:
        for _ in range(40):
            try:
                lease = await leases.take_on(
                    opened,
                    wallet=ADDRESS,
                    process="test",
                    fee_base_units=1,
                    calls=32,
                    waiting=1,
                    ttl_seconds=60,
                )
            except OutOfFunds as refused:
                if not refused.under_way_base_units:
                    return False
                await asyncio.sleep(0.01)
                continue
            if next(failures):
                await leases.end_on(opened, [lease.id])
                continue
            async with opened.transaction():
                return await leases.charge_on(opened, [(lease.id, 1)]) == {lease.id}
        return False

    assert asyncio.run(many(60, sometimes)) == 10
    assert queries.balance_of(ADDRESS).balance_base_units == 0


# One that was charged before: each lease is charged once at least, however slow the machine is.
_LET_ONE_EXPIRE = """
    UPDATE ledger_lease SET expires_at = '2020-01-01'
    WHERE id = (
        SELECT id FROM ledger_lease WHERE spent_base_units > 0 ORDER BY random() LIMIT 1
    )
"""


def test_charges_and_sweeps_at_once_lose_nothing() -> None:
    for address in (ADDRESS, OTHER):
        give(address, 10_000)
    served = {ADDRESS: 0, OTHER: 0}
    stop = threading.Event()

    async def spend(opened: psycopg.AsyncConnection) -> bool:
        taken = []
        for address in (ADDRESS, OTHER):
            lease = await leases.take_on(
                opened,
                wallet=address,
                process="test",
                fee_base_units=1,
                calls=4,
                waiting=1,
                ttl_seconds=60,
            )
            taken.append((address, lease))
        for _ in range(4):
            async with opened.transaction():
                # Not in the order of ids: the statement has to see to that itself.
                took = await leases.charge_on(opened, [(each.id, 1) for _, each in taken[::-1]])
            for address, each in taken:
                served[address] += each.id in took
            await asyncio.sleep(0.005)
        return True

    def sweep() -> None:
        try:
            while not stop.is_set():
                with connection.cursor() as cursor:
                    cursor.execute(_LET_ONE_EXPIRE)
                leases.sweep()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        sweeps = [pool.submit(sweep) for _ in range(2)]
        try:
            asyncio.run(many(150, spend))
        finally:
            stop.set()
        for each in sweeps:
            each.result()
    ledger.Lease.objects.update(expires_at="2020-01-01T00:00:00Z")
    leases.sweep()
    assert sums(WALLET) == (10_000, 0, 0, served[ADDRESS])
    assert sums(OTHER_WALLET) == (10_000, 0, 0, served[OTHER])
    assert min(served.values()) >= 150


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Runs ``work`` beside the test once it waits for a lock; gives what waits for its result."""

    def whole() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(whole)
        _await_lock()
        yield lambda: future.result(30)


def _await_lock() -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone() != (0,):
                return
        time.sleep(0.02)
    raise AssertionError("Nobody came to wait for the lock.")


def _lease(ttl_seconds: float = 60) -> leases.Lease:
    async def taken() -> leases.Lease:
        async with database() as opened:
            return await leases.take_on(
                opened,
                wallet=ADDRESS,
                process="test",
                fee_base_units=1,
                calls=2,
                waiting=1,
                ttl_seconds=ttl_seconds,
            )

    return asyncio.run(taken())


def _due() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(leases._DEAD, {"limit": 1})
        return bool(cursor.fetchall())


def test_a_lease_that_is_being_charged_is_brought_back_after_that_and_nobody_waits() -> None:
    give(ADDRESS, 100)
    lease = _lease(ttl_seconds=0.5)
    asked = {"ids": [lease.id], "amounts": [1]}
    with psycopg.connect(conninfo()) as charging:
        assert charging.execute(leases._CHARGE, asked).fetchall() == [([lease.id],)]
        while not _due():
            time.sleep(0.05)
        assert leases.sweep() == 0
        other = _lease()
        assert sums(WALLET) == (100, 0, lease.amount_base_units + other.amount_base_units, 0)
    assert leases.sweep() == 1
    assert sums(WALLET) == (100, 0, other.amount_base_units, 1)


def test_an_end_waits_for_a_charge_under_way_and_counts_it() -> None:
    give(ADDRESS, 100)
    lease = _lease()
    asked = {"ids": [lease.id], "amounts": [1]}

    async def ended() -> None:
        async with database() as opened:
            await leases.end_on(opened, [lease.id])

    with psycopg.connect(conninfo()) as charging:
        charging.execute(leases._CHARGE, asked)
        with in_thread(lambda: asyncio.run(ended())) as done:
            charging.commit()
            done()
    assert sums(WALLET) == (100, 0, 0, 1)


def test_a_charge_waits_for_a_sweep_under_way_and_is_refused() -> None:
    give(ADDRESS, 100)
    lease = _lease()

    async def charged() -> set[Any]:
        async with database() as opened, opened.transaction():
            return await leases.charge_on(opened, [(lease.id, 1)])

    with psycopg.connect(conninfo()) as sweeping:
        sweeping.execute(leases._LOCK_ACCOUNTS_OF, {"ids": [lease.id]})
        sweeping.execute(leases._LOCK_TO_END, {"ids": [lease.id]})
        sweeping.execute(leases._END, {"ids": [lease.id]})
        with in_thread(lambda: asyncio.run(charged())) as took:
            sweeping.commit()
            assert took() == set()
    assert sums(WALLET) == (100, 0, 0, 0)


def test_two_sweeps_at_once_bring_each_lease_back_once() -> None:
    give(ADDRESS, 1_000)
    taken = [_lease() for _ in range(20)]
    ledger.Lease.objects.update(spent_base_units=1, expires_at="2020-01-01T00:00:00Z")
    together = threading.Barrier(4)

    def swept() -> int:
        try:
            together.wait(10)
            return leases.sweep()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        counts = [each.result() for each in [pool.submit(swept) for _ in range(4)]]
    assert sum(counts) == len(taken)
    assert sums(WALLET) == (1_000, 0, 0, 20)


def test_batches_of_transfers_in_any_order_wait_for_each_other_and_none_deadlocks() -> None:
    addresses = [ADDRESS, OTHER]
    for address in addresses:
        give(address, 1_000)
    together = threading.Barrier(4)

    def move(number: int) -> int:
        try:
            together.wait(10)
            there, back = [WALLET, OTHER_WALLET][:: 1 if number % 2 else -1], "treasury"
            done = 0
            for _ in range(25):
                batch = [posting(there[0], there[1], 2), posting(there[1], back, 1)]
                done += services.post(batch)
            return done
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = [each.result() for each in [pool.submit(move, number) for number in range(4)]]
    assert done == [50] * 4
    assert sums("treasury")[0] == 100
    assert sums(WALLET)[0] + sums(OTHER_WALLET)[0] == 1_900


_TAKES_AND_HANGS = """
import asyncio, sys
import django
django.setup()
import psycopg
from billing.ledger import leases

async def main():
    opened = await psycopg.AsyncConnection.connect(sys.argv[1], autocommit=True)
    lease = await leases.take_on(
        opened, wallet=sys.argv[2], process="killed", fee_base_units=1, calls=32, waiting=10,
        ttl_seconds=1.5,
    )
    async with opened.transaction():
        await leases.charge_on(opened, [(lease.id, 3)])
    print(lease.amount_base_units, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_lease_of_a_killed_process_comes_back_by_itself() -> None:
    give(ADDRESS, 10)
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKES_AND_HANGS, conninfo(), ADDRESS],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "10"
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 30
    while not asyncio.run(many(1, call)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert queries.balance_of(ADDRESS).balance_base_units == 6
    assert asyncio.run(many(50, call)) == 6
