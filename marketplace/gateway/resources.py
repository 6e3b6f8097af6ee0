"""What calls share on one event loop: connections, the router, purses, and who writes them down."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import aiohttp
from django.conf import settings
from redis.asyncio import Redis

from marketplace.gateway.links import Links
from marketplace.gateway.purses import Purses
from marketplace.gateway.recorder import Recorder
from marketplace.mesh import asyncdb, client
from marketplace.mesh.routing import Router


@dataclass(frozen=True)
class Resources:
    http: aiohttp.ClientSession
    redis: Redis
    router: Router
    purses: Purses = field(default_factory=Purses)
    recorder: Recorder = field(default_factory=Recorder)
    links: Links = field(default_factory=Links)


_opened: dict[asyncio.AbstractEventLoop, tuple[Resources, AsyncExitStack]] = {}


async def here() -> Resources:
    """The resources of the running loop, opened on first use."""
    loop = asyncio.get_running_loop()
    found = _opened.get(loop)
    if found is None:
        stack = AsyncExitStack()
        redis: Redis = Redis.from_url(
            settings.REDIS_URL, socket_timeout=1.0, socket_connect_timeout=1.0
        )
        # Nothing awaits before the entry is made: two first calls share one set.
        http = aiohttp.ClientSession(**client.session_options())
        stack.push_async_callback(redis.aclose)
        stack.push_async_callback(http.close)
        found = (Resources(http, redis, Router()), stack)
        _opened[loop] = found
    return found[0]


async def aclose() -> None:
    """Closes what the running loop has opened; what is being written down is, and funds go back."""
    found = _opened.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found[0].router.aclose()
        await found[0].recorder.aclose()
        await found[0].purses.aclose()
        await found[1].aclose()
    await asyncdb.aclose()
