"""Closers that die or meet, calls that come while an epoch closes, and clocks that are wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone
from pytest_django import Settings

from billing.epochs import closing, opening, services, tasks
from billing.epochs.models import Epoch, Parameters
from inframind.storage import dumps
from inframind.storage.errors import StoreUnavailable
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, facts, record
from tests.database import database

PAYERS = [address(number) for number in range(1, 6)]
OWNER, OTHER_OWNER, OPERATOR = address(11), address(12), address(21)
NODE = "11111111-1111-1111-1111-111111111111"
CALLS = [
    Kept(payer, owner, OPERATOR, model, NODE, IFM // 3 + number)
    for number, payer in enumerate(PAYERS * 4)
    for owner, model in ((OWNER, "summarizer-v1"), (OTHER_OWNER, "vision"))
]
ROOT = Path(__file__).resolve().parents[3]

# Each closer is a process forked before anything is opened; prints how each ended.
FORKING = """
import os, signal, sys
import django
django.setup()
from django.db import connection
from billing.epochs import closing, services, sources
from tests.billing.epochs.keeper import Keeper
STEPS = closing.STEPS

def dying(wanted, statements):
    def step(number, wait=True):
        left = [statements]
        def count(execute, *arguments):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return execute(*arguments)
        with connection.execute_wrapper(count):
            wanted(number, wait)
        os.kill(os.getpid(), signal.SIGKILL)
    return step

def close(dies_in=None, statements=0):
    child = os.fork()
    if child:
        return child
    sources.register(Keeper())
    closing.STEPS = tuple(
        dying(each, statements) if each.__name__ == dies_in else each for each in STEPS
    )
    closing.shut = closing.STEPS[0]
    services.close(2, at_once=True)
    os._exit(0)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
# Killed with SIGKILL in the middle of each step, and again once it is done; then left in peace.
KILLED = (
    FORKING
    + """
for step in STEPS:
    for statements in (2, 99):
        print(step.__name__, ended(close(step.__name__, statements)))
print('undisturbed', ended(close()))
"""
)
TWO = FORKING + "print(*map(ended, [close(), close()]))"


def test_a_closer_that_is_cut_off_at_any_statement_is_gone_on_from(keeper: Keeper) -> None:
    record(CALLS)
    services.close(at_once=True)
    record(CALLS[:11], seed=2)
    with transaction.atomic():
        statements = _cut_off(None)
        expected = facts(2)
        transaction.set_rollback(True)
    assert statements > 40
    for number in range(statements):
        with transaction.atomic():
            with pytest.raises(OperationalError):
                _cut_off(number)
            services.close(2, at_once=True)
            assert facts(2) == expected, number
            transaction.set_rollback(True)


def test_a_closer_killed_with_sigkill_in_each_step_is_gone_on_from(
    committed_keeper: Keeper, settings: Settings
) -> None:
    record(CALLS)
    services.close(at_once=True)
    record(CALLS[:11], seed=2)
    told = _told(settings, KILLED).splitlines()
    killed = f"{-signal.SIGKILL}"
    assert told == [
        *[f"{step.__name__} {killed}" for step in closing.STEPS for _ in range(2)],
        "undisturbed 0",
    ]
    found = facts(2)
    _again_undisturbed()
    assert found == facts(2)


def test_of_two_processes_that_close_the_same_epoch_both_find_it_sealed_once(
    committed_keeper: Keeper, settings: Settings
) -> None:
    record(CALLS)
    services.close(at_once=True)
    record(CALLS[:11], seed=2)
    assert _told(settings, TWO) == "0 0\n"
    assert list(Epoch.objects.values_list("number", "state").order_by("number")) == [
        (1, "sealed"),
        (2, "sealed"),
        (3, "open"),
    ]
    found = facts(2)
    _again_undisturbed()
    assert found == facts(2)


def test_of_many_threads_that_close_the_current_epoch_each_gets_a_sealed_one(
    committed_keeper: Keeper,
) -> None:
    record(CALLS)
    results = _at_once([lambda: services.close(1, at_once=True).state] * 4)
    assert results == ["sealed"] * 4
    assert Epoch.objects.count() == 2


def test_a_task_that_is_delivered_twice_at_once_closes_once(committed_keeper: Keeper) -> None:
    number = record(CALLS)
    Epoch.objects.filter(number=number).update(ends_at=opening.database_time())
    _at_once([tasks.close_due] * 4)
    tasks.close_due()
    assert Epoch.objects.get(number=number).state == Epoch.State.SEALED
    assert Epoch.objects.count() == 2
    found = facts(number)
    _at_once([tasks.close_due, tasks.retire] * 2)
    assert facts(number) == found


def test_the_first_epoch_is_opened_once_by_many_at_the_same_moment(
    committed_keeper: Keeper,
) -> None:
    assert _at_once([lambda: services.current().number] * 6) == [1] * 6
    assert Epoch.objects.count() == Parameters.objects.count() == 1


def test_a_closer_leaves_an_epoch_to_another_that_is_at_it(committed_keeper: Keeper) -> None:
    number = record(CALLS)
    closing.shut(number)
    with transaction.atomic():
        Epoch.objects.select_for_update().get(number=number)
        assert _at_once([services.close_due]) == [services.Closed((), ())]
    assert services.close_due() == services.Closed((number,), ())


def test_a_due_epoch_waits_for_the_batch_that_has_it_and_is_closed_then(
    committed_keeper: Keeper,
) -> None:
    """Under load some batch has it at any moment: to leave it alone then were never to close it."""
    number = services.current().number
    Epoch.objects.filter(number=number).update(ends_at=opening.database_time())

    async def closed() -> services.Closed:
        async with database() as batch:
            async with batch.transaction():
                assert (await services.open_epoch_on(batch)).number == number
                closer = asyncio.create_task(asyncio.to_thread(_at_once, [services.close_due]))
                await asyncio.sleep(0.5)
                assert not closer.done()
            [found] = await closer
            assert isinstance(found, services.Closed)
            return found

    assert asyncio.run(closed()) == services.Closed((number,), ())


def test_a_lost_connection_in_any_step_is_gone_on_from(
    committed_keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = record(CALLS)
    for step in range(1, len(closing.STEPS)):
        steps = (*closing.STEPS[:step], _hung_up(closing.STEPS[step]))
        with monkeypatch.context() as failing:
            failing.setattr(closing, "STEPS", steps)
            with pytest.raises(OperationalError):
                services.close(number, at_once=True)
        connection.close()
    assert services.close(number, at_once=True).state == Epoch.State.SEALED


def test_a_store_that_is_down_keeps_the_epoch_closing_and_the_next_one_open(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = record(CALLS)

    def down(*args: Any, **kwargs: Any) -> str:
        raise StoreUnavailable("The IPFS node does not answer.")

    with monkeypatch.context() as failing:
        failing.setattr(dumps, "add", down)
        with pytest.raises(StoreUnavailable):
            services.close(at_once=True)
        assert services.close_due() == services.Closed((), (number,))
        assert services.current().number == number + 1
    assert services.close_due() == services.Closed((number,), ())


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_process_whose_clock_is_ten_minutes_off_closes_by_the_database_s(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    off = timedelta(minutes=minutes)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off.total_seconds())
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(tz=UTC) + off)
    number = record(CALLS)
    Epoch.objects.filter(number=number).update(
        ends_at=opening.database_time() + timedelta(minutes=5)
    )
    assert services.close_due() == services.Closed((), ())
    Epoch.objects.filter(number=number).update(
        ends_at=opening.database_time() - timedelta(seconds=1)
    )
    assert services.close_due() == services.Closed((number,), ())
    epoch = Epoch.objects.get(number=number)
    at = opening.database_time()
    assert epoch.closed_at is not None
    assert epoch.sealed_at is not None
    assert at - timedelta(minutes=1) < epoch.closed_at <= epoch.sealed_at <= at


def test_no_call_enters_an_epoch_after_it_is_closed(committed_keeper: Keeper) -> None:
    entered, late = asyncio.run(_calls_while_closing())
    assert late == []
    assert len(entered) > 1


def test_without_the_lock_calls_do_enter_a_closed_epoch(
    committed_keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the test above would find."""
    unlocked = """
        SELECT number, (SELECT max(version) FROM epochs_parameters), clock_timestamp(), '{}'::uuid[]
        FROM epochs_epoch WHERE state = 'open'
    """
    monkeypatch.setattr(opening, "_ENTER", unlocked)
    _, late = asyncio.run(_calls_while_closing())
    assert late


def test_whoever_waited_for_the_closer_gets_the_next_epoch(committed_keeper: Keeper) -> None:
    services.current()

    async def wait() -> tuple[int, int]:
        async with database() as waiting, database() as closer:
            async with closer.transaction():
                await closer.execute("SELECT pg_advisory_xact_lock(%s)", [opening._ENTERING_LOCK])

                async def ask() -> tuple[int, int]:
                    async with waiting.transaction():
                        return (await services.open_epoch_on(waiting))[:2]

                asked = asyncio.create_task(ask())
                await asyncio.sleep(0.2)
                assert not asked.done()
                await closer.execute("UPDATE epochs_epoch SET state = 'closing', closed_at = now()")
                await closer.execute(
                    "INSERT INTO epochs_epoch (number, state, opened_at, ends_at, batch_count,"
                    " receipt_count, revenue_base_units, receipts_cid, tree_cid, leaf_count,"
                    " total_base_units)"
                    " VALUES (2, 'open', now(), now(), 0, 0, 0, '', '', 0, 0)"
                )
            return await asked

    assert asyncio.run(wait()) == (2, 1)


def test_the_first_call_opens_the_first_epoch(committed_keeper: Keeper) -> None:
    async def ask() -> tuple[int, int]:
        async with database() as opened, opened.transaction():
            return (await services.open_epoch_on(opened))[:2]

    assert asyncio.run(ask()) == (1, 1)
    services.change_parameters(by=None, reason="Shorter.", epoch_seconds=60)
    assert asyncio.run(ask()) == (1, 2)


async def _calls_while_closing() -> tuple[set[int], list[int]]:
    """Writes calls from a few connections while epochs are closed; which epochs they entered,
    and those that were closed already when the call's transaction was committed."""
    entered: set[int] = set()
    late: list[int] = []
    stop = asyncio.Event()

    async def call() -> None:
        async with database() as opened, database() as observer:
            while not stop.is_set():
                async with opened.transaction():
                    number = (await services.open_epoch_on(opened)).number
                    await asyncio.sleep(0.005)
                    # Just before the commit, as another sees it.
                    cursor = await observer.execute(
                        "SELECT state FROM epochs_epoch WHERE number = %s", [number]
                    )
                    row = await cursor.fetchone()
                    if row is None or row[0] != "open":
                        late.append(number)
                entered.add(number)

    callers = [asyncio.create_task(call()) for _ in range(4)]
    for _ in range(5):
        await asyncio.sleep(0.05)
        await asyncio.to_thread(_shut_current)
    stop.set()
    await asyncio.gather(*callers)
    return entered, late


def _shut_current() -> None:
    try:
        closing.shut(services.current().number)
    finally:
        connection.close()


def _cut_off(at: int | None) -> int:
    """Closes epoch 2 with the statement of that number failing; how many there were."""
    seen = 0

    def count(execute: Callable[..., Any], *arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen - 1 == at:
            raise OperationalError("The server closed the connection unexpectedly.")
        return execute(*arguments)

    with connection.execute_wrapper(count):
        services.close(2, at_once=True)
    return seen


def _again_undisturbed() -> None:
    """Empties the database and does the same two epochs in one go."""
    call_command("flush", verbosity=0, interactive=False)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM kept_receipt")
    record(CALLS)
    services.close(at_once=True)
    record(CALLS[:11], seed=2)
    services.close(2, at_once=True)


def _hung_up(step: Callable[[int, bool], None]) -> Callable[[int, bool], None]:
    def hung_up(number: int, wait: bool) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        step(number, wait)

    return hung_up


def _at_once(runs: list[Callable[[], Any]]) -> list[Any]:
    """Runs all at the same moment, each on a connection of its own."""
    gate = threading.Barrier(len(runs))
    results: list[Any] = [None] * len(runs)

    def run(index: int) -> None:
        try:
            gate.wait()
            results[index] = runs[index]()
        except Exception as error:
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _told(settings: Settings, script: str) -> str:
    """What a process says that runs a script on this test's database and store."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": parts._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
            "DJANGO_SETTINGS_MODULE": "inframind.settings",
            "PYTHONUNBUFFERED": "1",
            "STORE_DIR": str(settings.STORE_DIR),
            "IPFS_API": "",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout
