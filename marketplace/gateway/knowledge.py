"""What one event loop remembers of tokens and versions, so that a call need not ask the database.

A fact is used for a second from the moment it was asked for, and no longer: with that alone a
revocation, a price or an allow list reaches every call in time. News of a change (``changes``)
drops what it is about at once, from this process directly, from others through Redis. A refusal is
never remembered. A fact in use is asked for again before it is too old, beside the calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inframind.identity import changes, queries
from inframind.identity.caller import Caller
from inframind.identity.queries import Recognised
from inframind.lib.problem import Problem
from marketplace.catalog.queries import Servable, servable_on
from marketplace.mesh.asyncdb import connection

log = structlog.get_logger(__name__)

FRESH_SECONDS: Final = 1.0
RENEW_SECONDS: Final = 0.5
KEPT: Final = 4096  # facts of each kind
_RECONNECT_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.1

Key = TypeVar("Key")
Fact = TypeVar("Fact")
# Name, number, and the viewer where one matters: address, and whether for its own models only.
_VersionKey = tuple[str, str | None, str | None, bool]


@dataclass(slots=True, eq=False)
class Kept(Generic[Fact]):
    """A fact, and until when (of the monotonic clock) it may be used and is not asked for again."""

    fact: Fact
    until: float
    renew_at: float
    noted: bool = False  # of a token: its use


class Facts(Generic[Key, Fact]):
    """Facts of one kind by key. ``lasts`` says how many seconds a fact is true by itself."""

    def __init__(
        self, read: Callable[[Key], Awaitable[Fact]], lasts: Callable[[Fact], float]
    ) -> None:
        self._read = read
        self._lasts = lasts
        self.kept: dict[Key, Kept[Fact]] = {}
        self._reading: dict[Key, asyncio.Task[Kept[Fact]]] = {}

    def now(self, key: Key) -> Kept[Fact] | None:
        """What is known, None where that is nothing, or too old."""
        found = self.kept.get(key)
        if found is None:
            return None
        moment = time.monotonic()
        if moment >= found.renew_at:
            if moment >= found.until:
                return None
            if key not in self._reading:
                self._begin(key)
        return found

    async def get(self, key: Key) -> Kept[Fact]:
        """As ``now``, asking where that is None: one question at a time for each key.

        Raises what the question raises, and remembers nothing of that.
        """
        found = self.now(key)
        if found is not None:
            return found
        came = time.monotonic()
        reading = self._reading.get(key)
        if reading is not None:
            # Another call that waits for the same answer must not lose it.
            kept = await asyncio.shield(reading)
            if kept.until > came:
                return kept
            # The database was held up for so long that this was old already when this call came.
            reading = self._reading.get(key)
        return await asyncio.shield(reading or self._begin(key))

    def keep(self, key: Key, kept: Kept[Fact]) -> None:
        """Remembers it, and forgets the one that was asked for longest ago where there are many."""
        self.kept.pop(key, None)
        if len(self.kept) >= KEPT:
            del self.kept[next(iter(self.kept))]
        self.kept[key] = kept

    def drop(self, key: Key) -> None:
        """Forgets a fact; what is being asked is not remembered either."""
        self.kept.pop(key, None)
        self._reading.pop(key, None)

    def drop_if(self, concerns: Callable[[Key, Fact | None], bool]) -> None:
        """Forgets facts by key and fact; None for one that is being asked for."""
        for key, kept in list(self.kept.items()):
            if concerns(key, kept.fact):
                self.drop(key)
        for key in list(self._reading):
            if concerns(key, None):
                self.drop(key)

    async def aclose(self) -> None:
        """Waits for what is being asked."""
        await asyncio.gather(*self._reading.values(), return_exceptions=True)

    def _begin(self, key: Key) -> asyncio.Task[Kept[Fact]]:
        reading = asyncio.ensure_future(self._ask(key))
        self._reading[key] = reading
        reading.add_done_callback(lambda done: self._asked(key, done))
        return reading

    async def _ask(self, key: Key) -> Kept[Fact]:
        asked_at = time.monotonic()
        fact = await self._read(key)
        lasts = min(FRESH_SECONDS, self._lasts(fact))
        return Kept(fact, asked_at + lasts, asked_at + min(RENEW_SECONDS, lasts))

    def _asked(self, key: Key, done: asyncio.Task[Kept[Fact]]) -> None:
        # Whoever dropped the key meanwhile knows of something newer than this answer.
        wanted = self._reading.get(key) is done
        if wanted:
            del self._reading[key]
        if done.cancelled():
            return
        error = done.exception()
        if error is None and wanted:
            self.keep(key, done.result())
        elif isinstance(error, Problem):
            self.kept.pop(key, None)


class Knowledge:
    """The memory of one event loop. ``hearing`` is set while it has news of others."""

    def __init__(self) -> None:
        self._tokens: Facts[str, Recognised] = Facts(_recognised, lambda found: found.lasts_seconds)
        self._versions: Facts[_VersionKey, Servable] = Facts(_servable, lambda _: FRESH_SECONDS)
        self._loop = asyncio.get_running_loop()
        self.hearing = asyncio.Event()
        # Who else forgets by these messages; an empty one means everything.
        self.others: list[Callable[[str], None]] = []
        self._unlisten = changes.listen(self._told)
        self._listening = self._loop.create_task(self._listen())

    async def caller(self, bearer: str, remote_address: str) -> Caller:
        """Whose token this is. Raises ``Problem`` 401 and 403, ``psycopg.OperationalError``."""
        kept = self._tokens.now(bearer)
        if kept is None:
            kept = await self._tokens.get(bearer)
        found = kept.fact
        if found.scope.ip_ranges is not None:
            queries.check_address(found.scope, remote_address)
        if not kept.noted:
            if found.unknown_meters or not found.used_lately:
                async with connection() as database:
                    await queries.use_on(database, found)
            kept.noted = True
        return found.caller

    async def version(self, name: str, number: str | None, viewer: Caller | None) -> Servable:
        """The version to call. Raises as ``servable_on``."""
        versions = self._versions
        open_key = (name, number, None, False)
        if viewer is None:
            found = versions.now(open_key)
            return (await versions.get(open_key) if found is None else found).fact
        if not viewer.owned_only:
            found = versions.now(open_key)
            # What everybody sees alike is asked for once; only its owner is told more.
            if found is not None and found.fact.same_for_all and found.fact.owner != viewer.address:
                return found.fact
        key = _key(name, number, viewer)
        found = versions.now(key)
        if found is None:
            found = await versions.get(key)
            fact = found.fact
            if fact.same_for_all and fact.owner != viewer.address and not viewer.owned_only:
                versions.keep(open_key, found)
        return found.fact

    async def version_anew(self, name: str, number: str | None, viewer: Caller | None) -> Servable:
        """As ``version``, asked now: nobody is refused by what was true a moment ago."""
        self._versions.drop((name, number, None, False))
        if viewer is not None:
            self._versions.drop(_key(name, number, viewer))
        return await self.version(name, number, viewer)

    def drop(self, message: str) -> None:
        """Forgets what a message of ``changes`` is about."""
        for forget in self.others:
            forget(message)
        kind, _, what = message.partition(":")
        if kind == "model":
            self._versions.drop_if(lambda key, _: key[0] == what)
        elif kind == "wallet":
            self._versions.drop_if(lambda key, _: key[2] == what)
            self._tokens.drop_if(lambda _, found: found is None or found.caller.address == what)
        elif kind == "token":
            self._tokens.drop_if(
                lambda _, found: found is None or str(found.caller.token_id) == what
            )

    def drop_all(self) -> None:
        """Forgets everything."""
        for forget in self.others:
            forget("")
        self._tokens.drop_if(lambda *_: True)
        self._versions.drop_if(lambda *_: True)

    async def aclose(self) -> None:
        """Stops listening, and waits for what is being asked."""
        self._unlisten()
        while not self._listening.done():
            # While it connects, the client takes a cancellation for a timeout of its own: then the
            # next one ends it.
            self._listening.cancel()
            await asyncio.wait({self._listening}, timeout=_AGAIN_SECONDS)
        await self._tokens.aclose()
        await self._versions.aclose()

    def _told(self, message: str) -> None:
        if not self._loop.is_closed():
            # Before whatever the announcing thread asks of this loop next.
            self._loop.call_soon_threadsafe(self.drop, message)

    async def _listen(self) -> None:
        while True:
            try:
                await self._hear()
            except (RedisError, OSError) as error:
                log.warning("changes not heard", reason=type(error).__name__)
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear(self) -> None:
        redis: Redis = Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1.0)
        async with redis, redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(changes.CHANNEL)
            # What was said while nobody listened.
            self.drop_all()
            self.hearing.set()
            try:
                async for message in heard.listen():
                    self.drop(message["data"].decode(errors="replace"))
            finally:
                self.hearing.clear()


def _key(name: str, number: str | None, viewer: Caller) -> _VersionKey:
    return name, number, viewer.address if viewer.covers(name) else None, viewer.owned_only


async def _recognised(bearer: str) -> Recognised:
    async with connection() as database:
        return await queries.recognise_on(database, bearer)


async def _servable(key: _VersionKey) -> Servable:
    name, number, address, owned_only = key
    viewer = Caller(address, owned_only=owned_only) if address is not None else None
    async with connection() as database:
        return await servable_on(database, name, number, viewer=viewer)
