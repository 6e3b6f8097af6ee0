"""Which node a call is given to: rows of the database, no servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from inframind.identity import changes
from inframind.identity.models import Wallet
from marketplace.catalog.models import Model, Version
from marketplace.gateway import loop
from marketplace.mesh import asyncdb, routing
from marketplace.mesh.load import REFUSED
from marketplace.mesh.models import Node, NodeGrant, Placement
from marketplace.mesh.queueing import QUEUE_MIN
from marketplace.mesh.routing import Copy, NoRoute, Overloaded, Router

from .serving import fresh_name, list_doubler

Result = TypeVar("Result")
OPERATOR = "0x9999999999999999999999999999999999999999"


@pytest.fixture
def version(
    transactional_db: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Version]:
    monkeypatch.setattr(settings, "STORE_DIR", tmp_path / "store")
    yield list_doubler(fresh_name("doubler"))
    loop.stop()


def node(name: str, version: Version | None = None, **facts: Any) -> Node:
    given = {"state": "ready", "backends": ["python"], "trusted": True, **facts}
    made = Node.objects.create(
        name=name,
        operator=Wallet.objects.of(OPERATOR),
        endpoint=f"http://{name}.example.org:8000",
        **given,
    )
    if version is not None:
        Placement.objects.create(version=version, node=made, state="ready", ready_at=Now())
    return made


def run(work: Callable[[Router], Awaitable[Result]]) -> Result:
    async def inside() -> Result:
        router = Router()
        try:
            return await work(router)
        finally:
            await router.aclose()

    return loop.submit(inside(), 30)


async def take(router: Router, version: Version, **wish: Any) -> Copy:
    given = {"paid": False, "wait_seconds": 0.1, "queue_seconds": 0.2, **wish}
    return await router.take(version.pk, **given)


def drawn(version: Version, calls: int, **wish: Any) -> Counter[str]:
    """Where so many calls go that are never answered."""

    async def work(router: Router) -> Counter[str]:
        copies = [await take(router, version, **wish) for _ in range(calls)]
        return Counter(each.route.node_name for each in copies)

    return run(work)


def test_calls_spread_by_capacity(version: Version) -> None:
    node("a", version, capacity=2)
    node("b", version, capacity=6)
    assert drawn(version, 32) == {"a": 8, "b": 24}


def test_calls_spread_over_more_than_two_nodes(version: Version) -> None:
    for name in "abcd":
        node(name, version, capacity=8)
    found = drawn(version, 80)
    assert set(found) == set("abcd")
    assert max(found.values()) - min(found.values()) <= 12


def test_a_node_of_ill_repute_gets_less(version: Version) -> None:
    node("good", version, reputation_bps=10_000)
    node("poor", version, reputation_bps=5_000)
    found = drawn(version, 40)
    assert found["good"] / found["poor"] == 4


def test_the_faster_node_gets_more(version: Version) -> None:
    node("fast", version)
    node("slow", version)

    async def work(router: Router) -> Counter[str]:
        seconds = {"fast": 0.009, "slow": 0.049}
        copies = [await take(router, version, avoid=()) for _ in range(8)]
        for each in copies:
            router.served(each, seconds[each.route.node_name])
        for _ in range(60):
            copy = await take(router, version)
            router.served(copy, seconds[copy.route.node_name])
        return Counter([(await take(router, version)).route.node_name for _ in range(36)])

    found = run(work)
    assert found["fast"] >= 4 * found["slow"]


def test_paid_calls_go_only_where_they_may(version: Version) -> None:
    node("paid", version)
    node("unpaid", version, paid_calls=False)
    assert set(drawn(version, 30, paid=True)) == {"paid"}
    assert set(drawn(version, 30)) == {"paid", "unpaid"}


def test_where_only_nodes_without_paid_calls_are_left_a_paid_call_is_told(version: Version) -> None:
    node("unpaid", version, paid_calls=False)
    with pytest.raises(NoRoute, match="paid calls"):
        drawn(version, 1, paid=True, wait_seconds=10)


def test_a_suspended_node_gets_nothing(version: Version) -> None:
    node("well", version)
    node("suspended", version, state="suspended")
    assert set(drawn(version, 20)) == {"well"}


def test_a_node_that_missed_its_probes_is_asked_only_when_no_other_is_left(
    version: Version,
) -> None:
    down = node("down", version, state="down")
    well = node("well", version)
    assert set(drawn(version, 20)) == {"well"}
    assert set(drawn(version, 1, avoid=(well.pk,))) == {"down"}
    with pytest.raises(NoRoute):
        drawn(version, 1, avoid=(well.pk, down.pk))


def test_an_ejected_node_is_avoided_and_tried_again_by_one_call(version: Version) -> None:
    node("dead", version)
    node("well", version)

    async def work(router: Router) -> tuple[set[str], list[str]]:
        while (copy := await take(router, version)).route.node_name != "dead":
            pass
        router.gave_up(copy, strike=REFUSED, reason="Refused.")
        meanwhile = {(await take(router, version)).route.node_name for _ in range(20)}
        await asyncio.sleep(1.1)
        after = [(await take(router, version)).route.node_name for _ in range(10)]
        return meanwhile, after

    meanwhile, after = run(work)
    assert meanwhile == {"well"}
    assert Counter(after) == {"dead": 1, "well": 9}


def test_a_node_that_a_probe_saw_come_back_is_well_at_once(version: Version) -> None:
    dead = node("dead", version)

    async def work(router: Router) -> tuple[float, float]:
        copy = await take(router, version)
        for _ in range(3):
            copy.load.eject("Refused.", time.monotonic())
        before = copy.load.ejected_until
        await asyncdb.in_thread(lambda: Node.objects.filter(pk=dead.pk).update(ready_at=Now()))
        router.forget("")
        await take(router, version)
        return before, copy.load.ejected_until

    before, after = run(work)
    assert before > 0
    assert after == 0


def test_a_full_node_makes_calls_wait_the_first_come_first(version: Version) -> None:
    node("only", version, capacity=1)

    async def work(router: Router) -> list[int]:
        held = [await take(router, version) for _ in range(4)]
        got: list[int] = []

        async def wait(number: int) -> None:
            copy = await take(router, version, queue_seconds=5)
            got.append(number)
            router.served(copy, 3.0)

        waiting = []
        for number in range(6):
            waiting.append(asyncio.ensure_future(wait(number)))
            await asyncio.sleep(0.01)
        assert got == []
        for each in held:
            router.served(each, 3.0)
        await asyncio.gather(*waiting)
        (candidate,) = (await router.view(version.pk, paid=False)).candidates
        assert candidate.in_flight == 0
        return got

    assert run(work) == list(range(6))


def test_waiting_ends_with_a_503_and_leaves_nothing_behind(version: Version) -> None:
    node("only", version, capacity=1)

    async def work(router: Router) -> tuple[int, int]:
        held = [await take(router, version) for _ in range(4)]
        with pytest.raises(Overloaded):
            await take(router, version, queue_seconds=0.05)
        gone = asyncio.ensure_future(take(router, version, queue_seconds=5))
        await asyncio.sleep(0.02)
        gone.cancel()
        # Cancelled and given a place in the same moment: the place is not lost.
        late = asyncio.ensure_future(take(router, version, queue_seconds=5))
        await asyncio.sleep(0.02)
        router.served(held.pop(), 3.0)
        late.cancel()
        await asyncio.gather(gone, late, return_exceptions=True)
        for each in held:
            router.served(each, 3.0)
        view = await router.view(version.pk, paid=False)
        return view.candidates[0].in_flight, view.waiting

    assert run(work) == (0, 0)


def test_more_calls_than_may_wait_are_turned_away_at_once(version: Version) -> None:
    node("only", version, capacity=1)

    async def work(router: Router) -> tuple[int, int]:
        router.shed(version.pk, paid=False)
        for _ in range(4):
            await take(router, version)
        waiting = [
            asyncio.ensure_future(take(router, version, queue_seconds=0.5))
            for _ in range(QUEUE_MIN + 10)
        ]
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded) as caught:
            router.shed(version.pk, paid=False)
        assert caught.value.retry_after_seconds >= 1
        at_once = sum(each.done() for each in waiting)
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        return at_once, sum(isinstance(each, Overloaded) for each in ended)

    assert run(work) == (10, QUEUE_MIN + 10)


def test_a_model_that_turns_private_is_off_foreign_nodes_within_a_second(version: Version) -> None:
    foreign = node("foreign", version, trusted=False)

    async def work(router: Router) -> float:
        await take(router, version)
        # By ``update``, so that no message tells of it.
        private = {"public": False, "auth_required": True, "restricted": True}
        await asyncdb.in_thread(lambda: Model.objects.filter(pk=version.model_id).update(**private))
        since = time.monotonic()
        while time.monotonic() - since < 5:
            copy = router.pick(version.pk, paid=False)
            if copy is None:
                try:
                    copy = await take(router, version, wait_seconds=0)
                except NoRoute:
                    return time.monotonic() - since
            router.served(copy, 0.001)
            await asyncio.sleep(0.01)
        return 5.0

    assert run(work) < 1
    NodeGrant.objects.create(model_id=version.model_id, node=foreign)
    assert set(drawn(version, 1)) == {"foreign"}


@pytest.mark.parametrize("paid", [False, True], ids=["private", "paid"])
def test_who_waited_for_a_node_is_not_sent_where_calls_may_not_go_any_more(
    version: Version, paid: bool
) -> None:
    node("foreign", version, trusted=False, capacity=1)

    def change() -> None:
        # By ``update``, so that no message tells of it.
        if paid:
            Node.objects.filter(name="foreign").update(paid_calls=False)
        else:
            private = {"public": False, "auth_required": True, "restricted": True}
            Model.objects.filter(pk=version.model_id).update(**private)

    async def work(router: Router) -> list[int]:
        held = [await take(router, version, paid=paid) for _ in range(4)]
        waiting = asyncio.ensure_future(take(router, version, paid=paid, queue_seconds=10))
        await asyncio.sleep(0.05)
        await asyncdb.in_thread(change)
        await asyncio.sleep(routing.STALE_SECONDS + 0.1)
        for each in held:
            router.served(each, 3.0)
        with pytest.raises(NoRoute):
            await waiting
        return [each.load.in_flight for each in held]

    assert run(work) == [0] * 4


def test_a_change_that_was_told_is_known_to_the_next_call(version: Version) -> None:
    node("old", version)
    new = node("new")

    async def work(router: Router) -> tuple[set[str], set[str]]:
        stop = changes.listen(router.forget)
        before = {(await take(router, version)).route.node_name for _ in range(4)}

        def move() -> None:
            Placement.objects.get(version=version).delete()
            Placement.objects.create(version=version, node=new, state="ready", ready_at=Now())

        try:
            await asyncdb.in_thread(move)
            after = {(await take(router, version)).route.node_name for _ in range(4)}
        finally:
            stop()
        return before, after

    assert run(work) == ({"old"}, {"new"})


def test_in_use_routes_are_read_beside_the_calls_and_not_by_each(version: Version) -> None:
    node("a", version)

    async def work(router: Router) -> tuple[int, float]:
        await take(router, version)
        calls, oldest = 0, 0.0
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            copy = router.pick(version.pk, paid=False)
            if copy is not None:
                router.served(copy, 0.001)
                calls += 1
            oldest = max(oldest, (await router.view(version.pk, paid=False)).age_seconds)
            await asyncio.sleep(0.005)
        return calls, oldest

    calls, oldest = run(work)
    assert calls > 0
    assert oldest <= routing.STALE_SECONDS


def test_a_copy_that_is_lost_is_forgotten_and_loaded_again(version: Version) -> None:
    lost = node("lost", version)
    node("well", version)

    async def work(router: Router) -> set[str]:
        await take(router, version)
        await asyncio.gather(*(router.mark_lost(version.pk, lost.pk) for _ in range(20)))
        return {(await take(router, version)).route.node_name for _ in range(10)}

    assert run(work) == {"well"}
    assert Placement.objects.get(node=lost).state == "loading"


def test_the_number_of_versions_that_are_remembered_has_a_bound(version: Version) -> None:
    async def work(router: Router) -> int:
        for number in range(routing._MAX_KNOWN + 10):
            router._take_over(UUID(int=number), routing.Found(float(number)))
        return len(router._versions)

    assert run(work) <= routing._MAX_KNOWN


def test_routes_are_read_again_when_every_connection_had_died(version: Version) -> None:
    node("a", version)

    async def work(router: Router) -> str:
        async with AsyncExitStack() as several:
            for _ in range(4):
                await several.enter_async_context(asyncdb.connection())
        router.forget("")
        await asyncdb.in_thread(_end_other_connections)
        return (await take(router, version)).route.node_name

    assert run(work) == "a"
    connection.close_pool()  # type: ignore[attr-defined]


def _end_other_connections() -> None:
    with psycopg.connect(settings.DATABASE_URL, autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )
