"""Nodes die and come back; callers do not notice, or are told at once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection, connections

from inframind.devstack.triton import Node as Server
from inframind.devstack.triton import _descendants
from inframind.lib.ids import new_uuid7
from marketplace.gateway import loop, pipeline
from marketplace.gateway.models import Call
from marketplace.mesh import asyncdb, client, control, services
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.placing import address_of

from ..mesh.serving import fresh_name, list_doubler
from . import money

CALLS = 500
CONCURRENCY = 8


def request(name: str) -> pipeline.CallRequest:
    return pipeline.CallRequest(
        call_id=new_uuid7(),
        name=name,
        number=None,
        body=b'{"values": [1, 2, 3]}',
        caller=None,
        budget_base_units=None,
        remote_address="192.0.2.7",
        deadline_seconds=configured.CALL_DEADLINE_SECONDS,
    )


def on_both(version: Any) -> list[Placement]:
    for node in Node.objects.filter(trusted=True):
        services.place(version_id=version.pk, node_id=node.pk)
    return list(Placement.objects.filter(version=version, state="ready").select_related("node"))


def _is_there(placement: Placement) -> bool:
    address = client.Address(placement.node.endpoint)
    return client.model_ready(address, triton_name(placement.version_id))


def test_a_node_killed_among_500_calls_fails_none_and_is_whole_after_its_restart(
    private_mesh: list[Server], settings: Any
) -> None:
    settings.ANONYMOUS_CALLS_PER_MINUTE = 100_000
    version = list_doubler(fresh_name("doubler"))
    assert len(on_both(version)) == 2
    victim = private_mesh[0]
    done = threading.Semaphore(0)
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            services.probe_all()
            services.place_due()
            over.wait(0.5)
        connections.close_all()

    def one(_: int) -> tuple[int, str]:
        answer = loop.submit(pipeline.call(request(version.model_id)), 40)
        done.release()
        return answer.status, answer.headers["Inframind-Node"]

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(CONCURRENCY) as callers:
            answers = callers.map(one, range(CALLS))
            for _ in range(100):
                done.acquire()
            victim.kill()
            for _ in range(150):
                done.acquire()
            victim.restart()
            results = list(answers)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            # Rows can still be from before the crash: the calls may be over before it is noticed.
            placed = Placement.objects.filter(version=version, state="ready")
            up = Node.objects.filter(trusted=True, state="ready").count()
            if up == 2 and sum(map(_is_there, placed.select_related("node"))) == 2:
                break
            time.sleep(0.2)
    finally:
        over.set()
        watcher.join()

    assert [status for status, _ in results if status != 200] == []
    assert Call.objects.filter(version=version, outcome="served").count() == CALLS
    for placement in Placement.objects.filter(version=version).select_related("node"):
        assert placement.state == "ready"
        assert _is_there(placement)
    both = {placement.node.name for placement in on_both(version)}
    served_since: set[str] = set()
    while served_since != both and time.monotonic() < deadline:
        served_since.add(one(0)[1])
    assert served_since == both


def test_with_all_nodes_down_a_call_is_refused_within_a_second(
    private_mesh: list[Server], call: Any
) -> None:
    version = list_doubler(fresh_name("doubler"))
    on_both(version)
    assert call(version.model_id, {"values": [1]}).status_code == 200
    for server in private_mesh:
        server.kill()
    started = time.monotonic()
    answer = call(version.model_id, {"values": [1]})
    seconds = time.monotonic() - started

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["charged"] is False
    assert seconds < 1
    assert Call.objects.filter(outcome="no-node", fee_base_units=0).count() == 1


def test_a_model_gone_from_every_node_is_loaded_again_by_the_next_call(
    mesh: list[Node], call: Any
) -> None:
    version = list_doubler(fresh_name("doubler"))
    for placement in on_both(version):
        address = address_of(placement.node)
        control.unload(address, triton_name(version.pk))

    answer = call(version.model_id, {"values": [4]})

    assert answer.json() == {"values": [8.0], "label": "none"}


def test_calls_leave_no_transaction_open(mesh: list[Node], call: Any) -> None:
    version = list_doubler(fresh_name("doubler"))
    for _ in range(3):
        call(version.model_id, {"values": [1]})

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        )
        assert cursor.fetchone() == (0,)


def test_a_node_that_hangs_among_paid_calls_fails_none(
    private_mesh: list[Server], settings: Any
) -> None:
    settings.WALLET_CALLS_PER_MINUTE = 100_000
    version = money.paid_doubler()
    money.fund(money.GUEST, 10_000 * money.FEE)
    token = money.token_of()
    assert len(on_both(version)) == 2
    victim = private_mesh[0].child
    assert victim is not None
    hung = [victim.pid, *_descendants(victim.pid)]
    until = time.monotonic() + 8

    def caller(_: int) -> int:
        calls = 0
        while time.monotonic() < until:
            answer = loop.submit(pipeline.call(money.request_of(version.model_id, token)), 40)
            assert answer.status == 200, answer.document
            calls += 1
            if calls == 20:
                stop.set()
        return calls

    stop = threading.Event()
    try:
        with ThreadPoolExecutor(CONCURRENCY) as callers:
            counts = callers.map(caller, range(CONCURRENCY))
            assert stop.wait(30)
            for pid in hung:
                os.kill(pid, signal.SIGSTOP)
            calls = sum(counts)
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)

    served = Call.objects.filter(version=version, outcome="served")
    assert served.count() == calls
    assert money.spent() == calls * money.FEE
    # Each caller lost one call to it at most, and a few had it on trial.
    assert served.exclude(missed_nodes=[]).count() <= 2 * CONCURRENCY


def test_a_model_unloaded_again_and_again_under_load_fails_no_call(
    mesh: list[Node], settings: Any
) -> None:
    settings.ANONYMOUS_CALLS_PER_MINUTE = 100_000
    version = list_doubler(fresh_name("doubler"))
    placements = on_both(version)
    over = threading.Event()

    def unload() -> None:
        for number in range(6):
            placement = placements[number % 2]
            with suppress(client.NodeError):
                control.unload(address_of(placement.node), triton_name(version.pk))
            over.wait(0.7)
            services.place_due()
        over.set()
        connections.close_all()

    def caller(_: int) -> list[int]:
        statuses = []
        while not over.is_set():
            answer = loop.submit(pipeline.call(request(version.model_id)), 40)
            statuses.append(answer.status)
        return statuses

    unloader = threading.Thread(target=unload)
    unloader.start()
    try:
        with ThreadPoolExecutor(4) as callers:
            statuses = [each for found in callers.map(caller, range(4)) for each in found]
    finally:
        over.set()
        unloader.join()

    assert set(statuses) == {200}


@pytest.mark.parametrize("callers", [8])
def test_first_calls_at_once_load_the_model_once(mesh: list[Node], callers: int) -> None:
    version = list_doubler(fresh_name("doubler"))

    with ThreadPoolExecutor(callers) as threads:
        answers = list(
            threads.map(
                lambda _: loop.submit(pipeline.call(request(version.model_id)), 40), range(callers)
            )
        )

    assert {answer.status for answer in answers} == {200}
    assert Placement.objects.filter(version=version, state="ready").count() == 1
    services.place_due()
    assert Placement.objects.filter(version=version, state="ready").count() == 2


def test_without_a_database_a_call_is_503_and_safe_to_repeat(
    mesh: list[Node], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = list_doubler(fresh_name("doubler"))
    taken, free = threading.Event(), threading.Event()

    async def take_all() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(asyncdb.POOL_CONNECTIONS):
                await stack.enter_async_context(asyncdb.connection())
            taken.set()
            await asyncio.to_thread(free.wait)

    hog = threading.Thread(target=lambda: loop.submit(take_all(), 30))
    hog.start()
    assert taken.wait(10)
    monkeypatch.setattr(asyncdb, "POOL_WAIT_SECONDS", 0.1)
    answer = call(version.model_id, {"values": [1]})
    free.set()
    hog.join()

    assert answer.status_code == 503
    assert answer.json()["type"] == "/problems/not-available"
    assert answer.json()["retry_safe"] is True
    assert call(version.model_id, {"values": [1]}).status_code == 200
