"""Buckets of calls, on a real Redis: exact however many ask, from however many processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inframind.devstack import redis as devstack
from inframind.devstack.processes import Children
from inframind.lib.ids import new_uuid7
from marketplace.gateway.limits import Allowance, Limiter, OwnBuckets, Rules, rules

# So long a window that none of a bucket comes back while a test runs, however slow the machine.
DAY_SECONDS = 86_400


def day(**limits: int) -> Rules:
    return rules(tuple(limits), tuple(limits.values()), DAY_SECONDS)


def fresh(policy: str = "wallet") -> str:
    return f"{policy}:{new_uuid7().hex}"


@asynccontextmanager
async def limiter(url: str = "", window_seconds: int = DAY_SECONDS) -> AsyncIterator[Limiter]:
    opened = Limiter(url or settings.REDIS_URL, window_seconds=window_seconds)
    try:
        yield opened
    finally:
        await opened.aclose()


async def all_of(
    opened: Limiter, of: Rules, subjects: Sequence[tuple[str, ...]]
) -> list[Allowance]:
    return list(await asyncio.gather(*(opened.take(of, each) for each in subjects)))


def allowed(found: Sequence[Allowance]) -> int:
    return sum(each.allowed for each in found)


@pytest.mark.parametrize(("limit", "asked"), [(10, 40), (7, 8), (1, 3), (700, 900)])
def test_exactly_the_limit_passes_however_many_ask_at_once(limit: int, asked: int) -> None:
    async def run() -> list[Allowance]:
        subject = fresh()
        async with limiter() as opened:
            return await all_of(opened, day(wallet=limit), [(subject,)] * asked)

    found = asyncio.run(run())

    assert allowed(found) == limit
    passed = sorted(each.remaining[0] or 0 for each in found if each.allowed)
    assert passed == list(range(limit))
    refused = [each for each in found if not each.allowed]
    assert {each.remaining for each in refused} == {(0,)}
    window_us = DAY_SECONDS * 1_000_000
    assert all(0 < each.waits_us[0] <= window_us // limit for each in refused)


PROCESS = """
import asyncio, json, sys

sys.path.insert(0, "")
from redis.asyncio import Redis

from marketplace.gateway.limits import Limiter, rules

plan = json.loads(sys.stdin.readline())


async def atomic(coroutines):
    limiter = Limiter(plan["url"], window_seconds=plan["window"])
    of = rules(("wallet", "model"), tuple(plan["limits"]), plan["window"])

    async def one(number):
        passed = 0
        for _ in range(plan["times"]):
            passed += (await limiter.take(of, tuple(plan["subjects"]))).allowed
        return passed

    passed = sum(await asyncio.gather(*map(one, range(coroutines))))
    await limiter.aclose()
    return passed


async def in_two_steps(coroutines):
    async with Redis.from_url(plan["url"]) as redis:

        async def one(number):
            passed = 0
            for _ in range(plan["times"]):
                taken = int(await redis.get(plan["subjects"][0]) or 0)
                if taken < plan["limits"][0]:
                    await redis.set(plan["subjects"][0], taken + 1)
                    passed += 1
            return passed

        return sum(await asyncio.gather(*map(one, range(coroutines))))


print("ready", flush=True)
sys.stdin.readline()
print(asyncio.run((atomic if plan["atomic"] else in_two_steps)(plan["coroutines"])), flush=True)
"""


def over_processes(**plan: Any) -> int:
    """How many of the calls of two processes, begun together, are allowed."""
    whole = {"url": settings.REDIS_URL, "window": DAY_SECONDS, "coroutines": 40, "times": 5, **plan}
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", PROCESS],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=settings.BASE_DIR,
                )
            )
            for _ in range(2)
        ]
        passed = 0
        for child in children:
            assert child.stdin is not None
            child.stdin.write(json.dumps(whole) + "\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            passed += int(child.stdout.readline())
    return passed


def test_two_processes_of_forty_coroutines_get_exactly_the_limit() -> None:
    model = fresh("model")
    assert over_processes(atomic=True, limits=[150, 400], subjects=[fresh(), model]) == 150
    # What the wallet was denied, the model never lost.
    assert over_processes(atomic=True, limits=[999, 400], subjects=[fresh(), model]) == 250


def test_looked_at_first_and_taken_then_more_than_the_limit_pass() -> None:
    assert over_processes(atomic=False, limits=[150], subjects=[fresh()]) > 150


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=40))
def test_a_call_takes_from_all_of_its_buckets_or_from_none(calls: list[tuple[str, str]]) -> None:
    run_id = new_uuid7().hex
    limits = {"wallet": 5, "model": 7}
    left: dict[str, int] = {}
    expected = []
    for wallet, model in calls:
        both = [left.setdefault(wallet, 5), left.setdefault(model, 7)]
        taken = min(both) > 0
        for key in (wallet, model):
            left[key] -= taken
        expected.append((taken, (left[wallet], left[model])))

    async def run(of: Rules) -> list[Allowance]:
        subjects = [(f"wallet:{run_id}{w}", f"model:{run_id}{m}") for w, m in calls]
        async with limiter() as opened:
            return await all_of(opened, of, subjects)

    own = OwnBuckets()
    here = [own.take(day(**limits), each) for each in calls]
    for found in (asyncio.run(run(day(**limits))), here):
        assert [(each.allowed, each.remaining) for each in found] == expected


def test_a_bucket_fills_again_evenly_and_never_above_its_limit() -> None:
    subject = fresh()
    of = day(wallet=8)
    step_us = DAY_SECONDS * 1_000_000 // 8

    async def run() -> None:
        async with limiter() as opened, Redis.from_url(settings.REDIS_URL) as redis:
            key = f"inframind:calls:{subject}"

            async def passing_after(microseconds: int) -> int:
                full = int(await redis.get(key) or 0)
                await redis.set(key, full - microseconds, keepttl=True)
                # Another process: this one remembers that the bucket was empty.
                async with limiter() as other:
                    return allowed(await all_of(other, of, [(subject,)] * 20))

            assert allowed(await all_of(opened, of, [(subject,)] * 20)) == 8
            assert await passing_after(0) == 0
            assert await passing_after(3 * step_us) == 3
            assert await passing_after(50 * step_us) == 8
            # Redis's clock was put back: as long as a whole bucket takes, and no longer.
            assert await passing_after(-50 * step_us) == 0
            assert await redis.pttl(key) > 0
            assert await passing_after(49 * step_us) == 0
            (last,) = await all_of(opened, of, [(subject,)])
            assert not last.allowed
            assert 0 < last.waits_us[0] <= step_us

    asyncio.run(run())


def test_an_unused_bucket_leaves_nothing_behind() -> None:
    subject = fresh()

    async def run() -> int:
        of = rules(("wallet",), (60,))
        async with limiter(window_seconds=60) as opened:
            await opened.take(of, (subject,))
        async with Redis.from_url(settings.REDIS_URL) as redis:
            return int(await redis.pttl(f"inframind:calls:{subject}"))

    assert 0 < asyncio.run(run()) <= 1_002


def test_who_is_known_to_have_none_left_is_refused_without_asking() -> None:
    spent, other, model = fresh(), fresh(), fresh("model")
    of = day(wallet=2, model=100)

    async def run() -> None:
        async with limiter() as opened:
            assert opened.refused(of, (spent, model)) is None
            await all_of(opened, of, [(spent, model)] * 3)
            refused = opened.refused(of, (spent, model))
            assert refused is not None
            assert not refused.allowed
            assert refused.headers() == {
                "RateLimit": f'"wallet";r=0;t={refused.retry_after_seconds}',
                "RateLimit-Policy": '"wallet";q=2;w=86400, "model";q=100;w=86400',
            }
            assert 0 < refused.retry_after_seconds <= DAY_SECONDS // 2
            assert opened.refused(of, (other, model)) is None
            (taken,) = await all_of(opened, of, [(other, model)])
            assert taken.headers()["RateLimit"] == '"wallet";r=1;t=0, "model";r=97;t=0'

    asyncio.run(run())


def test_scripts_that_redis_forgot_are_sent_again_and_count_once() -> None:
    subject = fresh()
    of = day(wallet=10)

    async def run() -> list[bool]:
        async with limiter() as opened, Redis.from_url(settings.REDIS_URL) as redis:
            found = await all_of(opened, of, [(subject,)] * 4)
            await redis.script_flush()
            found += await all_of(opened, of, [(subject,)] * 4)
            await redis.script_flush()
            found += await all_of(opened, of, [(subject,)] * 4)
            return [each.allowed for each in found]

    assert asyncio.run(run()) == [True] * 10 + [False] * 2


def test_more_calls_than_one_script_takes_are_all_counted() -> None:
    subject = fresh()

    async def run() -> int:
        async with limiter() as opened:
            return allowed(await all_of(opened, day(wallet=1_000), [(subject,)] * 1_500))

    assert asyncio.run(run()) == 1_000


def test_a_caller_that_goes_away_holds_up_nobody() -> None:
    subject = fresh()

    async def run() -> list[Allowance]:
        async with limiter() as opened:
            gone = opened.take(day(wallet=3), (subject,))
            gone.cancel()
            return await all_of(opened, day(wallet=3), [(subject,)] * 3)

    assert allowed(asyncio.run(run())) == 2


async def pid_of(server: devstack.Redis) -> int:
    """The server's own process; the child is the one that watches over it."""
    async with Redis.from_url(server.url) as redis:
        return int((await redis.info("server"))["process_id"])


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[devstack.Redis]:
    """A Redis of this test alone, to kill, stop and start again."""
    children = Children(tmp_path / "log")
    try:
        yield devstack.start_redis(
            children, folder=tmp_path / "redis", password="own", durable=False
        )
    finally:
        children.close()


def test_without_redis_each_process_counts_by_itself_by_the_same_rule() -> None:
    subject = fresh()

    async def run() -> list[Allowance]:
        async with limiter("redis://127.0.0.1:1/0") as opened:
            # The first ones wait for the connection that cannot be made, the others do not.
            found = await all_of(opened, day(wallet=10), [(subject,)] * 6)
            return [*found, *await all_of(opened, day(wallet=10), [(subject,)] * 6)]

    found = asyncio.run(run())
    assert [each.allowed for each in found] == [True] * 10 + [False] * 2
    assert found[-1].headers()["RateLimit"].startswith('"wallet";r=0;t=')


@pytest.mark.parametrize("ill", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_redis_lost_under_calls_leaves_none_unanswered(
    own_redis: devstack.Redis, ill: signal.Signals
) -> None:
    subject = fresh()
    of = day(wallet=10)

    async def run() -> tuple[list[Allowance], list[Allowance]]:
        async with limiter(own_redis.url) as opened:
            before = await all_of(opened, of, [(subject,)] * 4)
            pid = await pid_of(own_redis)
            under_way = [opened.take(of, (subject,)) for _ in range(7)]
            os.kill(pid, ill)
            after = [*await asyncio.gather(*under_way)]
            after += await all_of(opened, of, [(subject,)] * 13)
            if ill == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
            return before, after

    before, after = asyncio.run(run())
    assert allowed(before) == 4
    # The process's own bucket is whole when it is needed, and is not made whole again.
    assert [each.allowed for each in after] == [True] * 10 + [False] * 10


def test_when_redis_is_back_it_counts_again(own_redis: devstack.Redis) -> None:
    subject = fresh()
    of = day(wallet=10)

    async def run() -> None:
        pid = await pid_of(own_redis)
        async with limiter(own_redis.url) as opened:
            assert allowed(await all_of(opened, of, [(subject,)] * 4)) == 4
            os.kill(pid, signal.SIGSTOP)
            assert allowed(await all_of(opened, of, [(subject,)] * 3)) == 3
            os.kill(pid, signal.SIGCONT)
            later = fresh()
            async with Redis.from_url(own_redis.url) as redis, asyncio.timeout(60):
                while not await redis.exists(f"inframind:calls:{later}"):
                    await opened.take(day(wallet=10_000), (later,))
                    await asyncio.sleep(0.05)
            # The same buckets as before, with what is left in them.
            assert allowed(await all_of(opened, of, [(subject,)] * 20)) <= 6

    asyncio.run(run())


def test_a_wrong_password_counts_as_no_redis(own_redis: devstack.Redis) -> None:
    subject = fresh()
    wrong = own_redis.url.replace(":own@", ":other@")

    async def run() -> list[Allowance]:
        async with limiter(wrong) as opened:
            return await all_of(opened, day(wallet=2), [(subject,)] * 3)

    assert [each.allowed for each in asyncio.run(run())] == [True, True, False]


def test_a_redis_that_refuses_to_write_counts_as_none(own_redis: devstack.Redis) -> None:
    subject = fresh()

    async def run() -> list[Allowance]:
        async with Redis.from_url(own_redis.url) as redis, limiter(own_redis.url) as opened:
            found = await all_of(opened, day(wallet=2), [(subject,)])
            await redis.config_set("min-replicas-to-write", 1)
            with pytest.raises(RedisError):
                await redis.set("x", 1)
            return [*found, *await all_of(opened, day(wallet=2), [(subject,)] * 3)]

    assert [each.allowed for each in asyncio.run(run())] == [True, True, True, False]


def test_no_policy_without_a_limit() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        rules(("wallet",), (0,))
