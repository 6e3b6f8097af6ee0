"""Token buckets, on a real Redis."""

from __future__ import annotations

import asyncio

from django.conf import settings
from redis.asyncio import Redis

from inframind.lib.ids import new_uuid7
from marketplace.gateway.limits import Allowance, take


def taken(times: int, *, limit: int, url: str) -> list[Allowance]:
    async def run() -> list[Allowance]:
        subject = new_uuid7().hex
        async with Redis.from_url(url) as redis:
            return list(
                await asyncio.gather(
                    *(
                        take(redis, policy="test", subject=subject, limit=limit)
                        for _ in range(times)
                    )
                )
            )

    return asyncio.run(run())


def test_exactly_the_limit_passes_however_many_ask_at_once() -> None:
    found = taken(40, limit=10, url=settings.REDIS_URL)

    assert sum(each.allowed for each in found) == 10
    refused = [each for each in found if not each.allowed]
    assert {each.remaining for each in refused} == {0}
    assert all(1 <= each.retry_after_seconds <= 6 for each in refused)


def test_without_redis_calls_pass() -> None:
    (found,) = taken(1, limit=10, url="redis://127.0.0.1:1/0")
    assert found.allowed
