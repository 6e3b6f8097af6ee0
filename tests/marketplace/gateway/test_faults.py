"""Under load, everything that calls depend on goes away: nothing is lost, nothing paid twice."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from marketplace.gateway import loop, pipeline
from marketplace.gateway.models import Call

from . import money
from .money import FEE, GUEST

pytestmark = pytest.mark.usefixtures("mesh")
LOAD_SECONDS = 8.0


def load(name: str, token: str, seconds: float) -> list[pipeline.CallAnswer]:
    """Eight callers, one call after the other each; what every call was answered."""
    answers: list[pipeline.CallAnswer] = []

    async def caller(until: float) -> None:
        while time.monotonic() < until:
            answers.append(await pipeline.call(money.request_of(name, token)))
            if answers[-1].status != 200:
                await asyncio.sleep(0.05)

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(caller(until) for _ in range(8)))

    loop.submit(run(), 120)
    return answers


@contextmanager
def meanwhile(deed: Callable[[], object], *, every_seconds: float) -> Iterator[None]:
    """Does a deed again and again beside what happens within."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(every_seconds):
            deed()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cut_off() -> int:
    """The database ends every connection and takes no new one for a moment, as in a restart.

    Returns how many there were.
    """
    name = connection.settings_dict["NAME"]
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        ended = server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        ).rowcount
        time.sleep(0.3)
        server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    return ended


def paid_for(answers: list[pipeline.CallAnswer]) -> None:
    """Who was answered was charged; who was told "nothing was charged" was not; each once."""
    rows = {row.pk: row for row in Call.objects.all()}
    charged = {pk for pk, row in rows.items() if row.fee_base_units}
    known: set[UUID] = set()
    for answer in answers:
        receipt = answer.headers.get("Inframind-Receipt")
        if answer.status == 200:
            assert receipt is not None
            assert UUID(receipt) in charged
            known.add(UUID(receipt))
        elif json.loads(answer.document)["charged"] is None:
            assert receipt is not None
            known.add(UUID(receipt))
        elif receipt is not None:
            assert UUID(receipt) not in charged
    # The call that warmed the model up is not among the answers.
    assert len(charged - known) == 1
    assert money.spent() == len(charged) * FEE


@pytest.fixture
def paid() -> Any:
    version = money.paid_doubler()
    money.fund(GUEST, 100_000 * FEE)
    token = money.token_of()
    # The node has loaded the model before the trouble begins.
    assert money.answer_of(money.request_of(version.model_id, token)).status == 200
    return version, token


def test_a_database_that_goes_away_under_load_loses_and_doubles_nothing(paid: Any) -> None:
    version, token = paid
    ended: list[int] = []
    with meanwhile(lambda: ended.append(cut_off()), every_seconds=1.5):
        answers = load(version.model_id, token, LOAD_SECONDS)
    # Those of this test were ended, too.
    connection.close_pool()  # type: ignore[attr-defined]
    # A call that was cut off may be refused, and most are tried again within it: both are right.
    assert len(ended) > 2
    assert min(ended) > 0
    assert any(each.status == 200 for each in answers)
    paid_for(answers)
    money.idle()
    money.swept()
    money.books_are_right()
    assert money.balance() == 100_000 * FEE - money.spent()


def test_a_flushed_redis_changes_nothing_about_money(paid: Any) -> None:
    version, token = paid

    def flush() -> None:
        with redis.Redis.from_url(settings.REDIS_URL) as server:
            server.flushdb()

    with meanwhile(flush, every_seconds=0.2):
        answers = load(version.model_id, token, 3)
    assert {each.status for each in answers} == {200}
    paid_for(answers)
    money.idle()
    money.books_are_right()
    assert money.balance() == 100_000 * FEE - (len(answers) + 1) * FEE
