"""One node is in trouble, another is well: no call fails. Raw servers, every way of failing."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from marketplace.catalog.models import Version
from marketplace.gateway import hedging, loop, pipeline, resources
from marketplace.gateway.models import Call
from marketplace.mesh.models import Placement

from ..mesh.serving import fresh_name, list_doubler
from . import money, rawnodes
from .rawnodes import RawNode, listening, placed

CALLS = 60
AT_ONCE = 6


@pytest.fixture(autouse=True)
def rows(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.STORE_DIR = tmp_path / "store"
    settings.ALLOW_LOOPBACK_NODES = True
    settings.ANONYMOUS_CALLS_PER_MINUTE = settings.WALLET_CALLS_PER_MINUTE = 100_000
    yield
    loop.stop()


def calls(
    version: Version, token: str | None = None, *, count: int = CALLS, seconds: float = 20
) -> list[pipeline.CallAnswer]:
    """So many calls, some at once."""
    answers: list[pipeline.CallAnswer] = []

    async def caller(number: int) -> None:
        for _ in range(number, count, AT_ONCE):
            request = money.request_of(version.model_id, token, deadline_seconds=seconds)
            answers.append(await pipeline.call(request))

    async def run() -> None:
        await asyncio.gather(*map(caller, range(AT_ONCE)))

    loop.submit(run(), 120)
    return answers


@contextmanager
def two_well(version: Version, token: str | None = None) -> Iterator[tuple[RawNode, RawNode]]:
    """Two nodes that hold the version, after enough calls to know what is late."""
    first, second = RawNode(rawnodes.well), RawNode(rawnodes.well)
    with listening(first, second):
        placed("first", first.endpoint, version)
        placed("second", second.endpoint, version)
        calls(version, token, count=40)
        yield first, second


def kinds(answers: list[pipeline.CallAnswer]) -> Counter[str]:
    return money.kinds(answers)


def nothing_is_left_behind(version: Version) -> None:
    """No place on a node is held by a call that has ended."""

    async def look() -> list[int]:
        # A second node that lost is told so beside the call.
        await asyncio.sleep(0.05)
        view = await (await resources.here()).router.view(version.pk, paid=False)
        return [each.in_flight for each in view.candidates]

    assert set(loop.submit(look(), 10)) <= {0}


@pytest.mark.parametrize("paid", [False, True], ids=["free", "paid"])
@pytest.mark.parametrize(
    "behaves",
    [
        rawnodes.talks_garbage,
        rawnodes.breaks_off,
        rawnodes.closes,
        rawnodes.gives_half_a_document,
        rawnodes.gives_a_wrong_shape,
        rawnodes.gives_another_tensor,
        rawnodes.is_a_proxy_without_a_server,
        rawnodes.lost_the_model,
    ],
    ids=lambda each: each.__name__,
)
def test_no_call_fails_where_another_node_is_well(behaves: Any, paid: bool) -> None:
    version = money.paid_doubler() if paid else list_doubler(fresh_name("doubler"))
    money.fund(money.GUEST, 1_000 * money.FEE)
    token = money.token_of() if paid else None
    bad, good = RawNode(behaves), RawNode(rawnodes.well)
    with listening(bad, good):
        troubled = placed("bad", bad.endpoint, version)
        placed("good", good.endpoint, version)
        answers = calls(version, token)
        nothing_is_left_behind(version)

    assert kinds(answers) == {"served": CALLS}
    assert {each.headers["Inframind-Node"] for each in answers} == {"good"}
    rows = Call.objects.filter(version=version, outcome="served")
    assert rows.count() == CALLS
    assert 1 <= bad.calls <= 20
    assert sum(row.attempts - 1 for row in rows) == bad.calls
    missed = rows.filter(missed_nodes__contains=[troubled.pk]).count()
    if behaves is rawnodes.lost_the_model:
        # That node did what it could; it is told to load the model again.
        assert missed == 0
        assert Placement.objects.get(node=troubled).state == "loading"
    else:
        assert missed == bad.calls
    if paid:
        assert money.spent() == CALLS * money.FEE


def test_a_refused_connection_costs_no_retry_and_no_call() -> None:
    version = list_doubler(fresh_name("doubler"))
    good = RawNode(rawnodes.well)
    with listening(good):
        placed("dead", rawnodes.closed_port(), version)
        placed("good", good.endpoint, version)
        answers = calls(version)
        nothing_is_left_behind(version)
    assert kinds(answers) == {"served": CALLS}
    assert good.calls == CALLS


def test_a_node_that_hangs_costs_a_paid_call_seconds_and_the_others_nothing() -> None:
    version = money.paid_doubler()
    money.fund(money.GUEST, 1_000 * money.FEE)
    token = money.token_of()
    hung, good = RawNode(rawnodes.hangs), RawNode(rawnodes.well)
    with listening(hung, good):
        placed("hung", hung.endpoint, version)
        placed("good", good.endpoint, version)
        assert kinds(calls(version, token)) == {"served": CALLS}
        seen = hung.calls
        assert kinds(calls(version, token, count=20)) == {"served": 20}
    assert 1 <= seen <= AT_ONCE
    assert money.spent() == (CALLS + 20) * money.FEE


def test_a_free_call_on_a_slow_node_is_answered_by_another_and_written_down_once() -> None:
    version = list_doubler(fresh_name("doubler"))
    with two_well(version) as (first, _):
        Call.objects.all().delete()
        first.behaves = rawnodes.is_slow
        started = time.monotonic()
        answers = calls(version, count=20)
        seconds = time.monotonic() - started
        nothing_is_left_behind(version)
    assert kinds(answers) == {"served": 20}
    assert Call.objects.count() == 20
    hedged = Call.objects.filter(attempts=2)
    assert hedged.count() >= 1
    assert {row.node_name for row in hedged} == {"second"}
    # The slow ones alone, one after the other, would have taken that long.
    assert seconds < 1.5 * hedged.count() + 10


def test_an_answer_in_the_very_moment_of_the_second_question_leaves_no_place_taken() -> None:
    version = list_doubler(fresh_name("doubler"))
    with two_well(version) as (first, second):
        first.behaves = second.behaves = rawnodes.hangs

        async def work() -> int:
            here = await resources.here()
            request = money.request_of(version.model_id, None, deadline_seconds=20)
            call = asyncio.ensure_future(pipeline.call(request))
            for _ in range(1_000):
                await asyncio.sleep(0)
                if here.nodes._under_way and here.hedges._flights:
                    break
            await here.hedges.aclose()
            (flight,) = here.hedges._flights.values()
            flight.sent_at -= 10
            # What one pass of a loop may find: an answer that has come, and a timer that is due.
            (connection,) = here.nodes._under_way
            connection.data_received(rawnodes.served())
            here.hedges._tick()
            assert flight.second is not None
            return (await call).status

        assert loop.submit(work(), 30) == 200
        nothing_is_left_behind(version)


def test_a_paid_call_is_never_hedged() -> None:
    version = money.paid_doubler()
    money.fund(money.GUEST, 1_000 * money.FEE)
    token = money.token_of()
    with two_well(version, token) as (first, second):
        first.behaves = second.behaves = rawnodes.is_slow
        before = first.calls + second.calls
        assert kinds(calls(version, token, count=6)) == {"served": 6}
        assert first.calls + second.calls == before + 6


def test_hedging_stops_at_the_retry_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    version = list_doubler(fresh_name("doubler"))
    with two_well(version) as (first, second):
        first.behaves = second.behaves = rawnodes.is_slow

        async def spend() -> int:
            retries = (await resources.here()).router.retries
            taken = 0
            while retries.take(time.monotonic()):
                taken += 1
            return taken

        assert loop.submit(spend(), 5) == 16
        before = first.calls + second.calls
        assert kinds(calls(version, count=6)) == {"served": 6}
        assert first.calls + second.calls == before + 6


def test_a_caller_that_goes_takes_both_tries_with_it() -> None:
    version = list_doubler(fresh_name("doubler"))
    with two_well(version) as (first, second):
        first.behaves = second.behaves = rawnodes.is_slow

        async def go() -> None:
            task = asyncio.ensure_future(pipeline.call(money.request_of(version.model_id, None)))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        loop.submit(go(), 10)
        nothing_is_left_behind(version)


def test_a_model_whose_answers_no_node_gets_right_is_itself_at_fault() -> None:
    version = list_doubler(fresh_name("doubler"))
    one, other = RawNode(rawnodes.gives_a_wrong_shape), RawNode(rawnodes.gives_a_wrong_shape)
    with listening(one, other):
        placed("one", one.endpoint, version)
        placed("other", other.endpoint, version)
        answers = calls(version, count=30)
        nothing_is_left_behind(version)
    assert kinds(answers) == {"/problems/invalid-output": 30}
    # Some were there before it was known; from then on no call is sent twice.
    assert one.calls + other.calls <= 30 + AT_ONCE
    assert Call.objects.filter(missed_nodes__len__gt=0).count() == 0


def test_a_models_own_error_is_final() -> None:
    version = list_doubler(fresh_name("doubler"))
    one, other = RawNode(rawnodes.has_a_model_that_fails), RawNode(rawnodes.well)
    with listening(one, other):
        placed("one", one.endpoint, version)
        placed("other", other.endpoint, version)
        answers = calls(version, count=30)
    failed = [each for each in answers if each.status == 502]
    assert len(failed) == one.calls > 0
    assert {json.loads(each.document)["type"] for each in failed} == {"/problems/model-failed"}


def test_a_lone_node_too_busy_to_take_connections_is_waited_for() -> None:
    """The backlog is full for a while, as on a machine under heavy load: the node lives."""
    version = list_doubler(fresh_name("doubler"))
    with closing(socket.socket()) as stuck:
        stuck.bind(("127.0.0.1", 0))
        stuck.listen(0)
        address = stuck.getsockname()
        placed("busy", f"http://127.0.0.1:{address[1]}", version)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)

        async def run() -> pipeline.CallAnswer:
            calling = asyncio.ensure_future(pipeline.call(money.request_of(version.model_id, None)))
            await asyncio.sleep(1.5)
            assert not calling.done()
            node = RawNode(rawnodes.well)
            for filler in fillers:
                filler.close()
            stuck.setblocking(False)
            server = await asyncio.start_server(node.serve, sock=stuck.dup())
            try:
                return await calling
            finally:
                server.close()

        answer = loop.submit(run(), 30)
    assert answer.status == 200


def test_a_flood_is_turned_away_before_any_fee_is_set_aside() -> None:
    version = money.paid_doubler()
    money.fund(money.GUEST, 1_000 * money.FEE)
    token = money.token_of()
    slow = RawNode(rawnodes.is_slow)
    with listening(slow):
        placed("slow", slow.endpoint, version, capacity=1)
        assert money.answer_of(money.request_of(version.model_id, token)).status == 200
        answers = money.at_once(
            [money.request_of(version.model_id, token, deadline_seconds=4) for _ in range(120)]
        )
        nothing_is_left_behind(version)
    found = kinds(answers)
    assert set(found) == {"served", "/problems/overloaded"}
    assert found["served"] >= 1
    turned_away = [each for each in answers if each.status == 503]
    assert all(int(each.headers["Retry-After"]) >= 1 for each in turned_away)
    assert all(json.loads(each.document)["charged"] is False for each in turned_away)
    assert money.spent() == (found["served"] + 1) * money.FEE
    money.idle()
    money.books_are_right()


def test_the_deadline_is_passed_down() -> None:
    version = list_doubler(fresh_name("doubler"))
    slow = RawNode(rawnodes.is_slow)
    with listening(slow):
        placed("slow", slow.endpoint, version)
        answer = money.answer_of(money.request_of(version.model_id, None, deadline_seconds=0.3))
    assert (answer.status, json.loads(answer.document)["type"]) == (504, "/problems/timed-out")


def test_the_watch_over_calls_ends_with_them() -> None:
    version = list_doubler(fresh_name("doubler"))
    node = RawNode(rawnodes.well)
    with listening(node):
        placed("node", node.endpoint, version)
        calls(version, count=10)

        async def look() -> tuple[int, bool]:
            await asyncio.sleep(3 * hedging.TICK_SECONDS)
            hedges = (await resources.here()).hedges
            return len(hedges._flights), hedges._timer is None

        assert loop.submit(look(), 5) == (0, True)
