"""Connections to nodes that are kept open: one pool per event loop, without a task per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from marketplace.mesh import transport
from marketplace.mesh.exchange import (
    Broken,
    Connection,
    NoConnection,
    NotHttp,
    Reply,
    TimedOut,
    TooLarge,
    WentSilent,
    WireError,
)

__all__ = [
    "ANSWER_MAX_BYTES",
    "SILENCE_SECONDS",
    "Broken",
    "NoConnection",
    "NotHttp",
    "Pool",
    "Reply",
    "TimedOut",
    "TooLarge",
    "WentSilent",
    "WireError",
]

ANSWER_MAX_BYTES: Final = 64 << 20
IDLE_SECONDS: Final = 20.0
# A server that is silent this long is asked whether it lives at all.
SILENCE_SECONDS: Final = 1.5
LOOK_SECONDS: Final = 1.0
# So many unanswered looks in a row, and who waits is told.
LOOKS: Final = 2
_NAME_SECONDS: Final = 10.0
_SWEEP_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.001
# A deadline passes in so many slices, of which a loop that stands still loses one.
_SLICES: Final = 8


@dataclass(eq=False, slots=True)
class _Origin:
    """A server, and the connections to it."""

    endpoint: str
    host: str
    port: int
    tls: bool
    host_line: bytes
    idle: list[Connection] = field(default_factory=list)
    open: set[Connection] = field(default_factory=set)
    opening: int = 0
    heard_at: float = 0.0
    looked_at: float = 0.0
    look: asyncio.Task[None] | None = None
    naming: asyncio.Task[tuple[str, ...]] | None = None
    named_at: float = 0.0


class Pool:
    """Keep-alive connections of the running loop, to as many servers as are asked.

    A request is written once and never again. Names lead only where ``transport`` lets nodes be.
    """

    def __init__(self, *, alive_path: str = "/v2/health/live") -> None:
        self._loop = asyncio.get_running_loop()
        self._alive_path = alive_path
        self._origins: dict[str, _Origin] = {}
        self._under_way: dict[Connection, _Origin] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def request(
        self,
        method: str,
        endpoint: str,
        path: str,
        *,
        headers: bytes = b"",
        body: bytes | tuple[bytes, ...] = b"",
        timeout_seconds: float,
        connect_seconds: float,
        max_bytes: int = ANSWER_MAX_BYTES,
        watched: bool = False,
    ) -> Reply:
        """One request and its whole answer, whatever its status; redirects are not followed.

        ``headers`` are whole lines, each with its CRLF; Host and Content-Length are added. A server
        that is silent is asked at ``alive_path`` whether it lives when the request is ``watched``.
        Raises ``WireError``; its kind says how far the request came.
        """
        began = time.monotonic()
        origin = self._origins.get(endpoint) or self._origin(endpoint)
        connection = None
        while origin.idle and connection is None:
            # The one used last is the least likely to be closed by now.
            found = origin.idle.pop()
            connection = found if found.usable else None
        if connection is None:
            if timeout_seconds <= connect_seconds:
                connection = await self._connect(origin, timeout_seconds, TimedOut)
            else:
                connection = await self._connect(origin, connect_seconds, NoConnection)
        size = len(body) if isinstance(body, bytes) else sum(map(len, body))
        head = b"%b %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n" % (
            method.encode(),
            path.encode(),
            origin.host_line,
            headers,
            size,
        )
        answer: asyncio.Future[Reply] = self._loop.create_future()
        connection.sent_at = now = time.monotonic()
        connection.deadline = deadline = began + timeout_seconds
        connection.watched, connection.silences = watched, 0
        connection.ask(answer, head, body, max_bytes=max_bytes)
        self._under_way[connection] = origin
        due = min(deadline, now + SILENCE_SECONDS) if watched else deadline
        if self._timer is None or due < self._timer_at:
            self._arm(due)
        try:
            reply = await answer
        except asyncio.CancelledError:
            # Its answer would come to whoever asks next.
            if connection.answer is answer:
                connection.abort()
            raise
        if watched:
            origin.heard_at = time.monotonic()
        return reply

    async def aclose(self) -> None:
        """Ends every connection; requests under way raise ``WireError``."""
        self._closed = True
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweeper = None
        tasks = [
            task
            for origin in self._origins.values()
            for task in (origin.look, origin.naming)
            if task is not None and not task.done()
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        every = [each for origin in self._origins.values() for each in origin.open]
        for connection in every:
            connection.fail(Broken("The pool was closed."))
        ending = [each.lost for each in every if not each.ended]
        if ending:
            await asyncio.wait(ending, timeout=_CLOSE_SECONDS)
        self._origins.clear()

    def _origin(self, endpoint: str) -> _Origin:
        if self._closed:
            raise NoConnection("The pool is closed.")
        try:
            parts = urlsplit(endpoint)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise NoConnection(f"{endpoint!r} is no address ({error}).") from None
        if parts.scheme not in ("http", "https") or not host or not parts.netloc.isascii():
            raise NoConnection(f"{endpoint!r} is no address of a node.")
        tls = parts.scheme == "https"
        origin = _Origin(
            endpoint,
            host,
            port or (443 if tls else 80),
            tls,
            b"Host: %b\r\n" % parts.netloc.encode(),
        )
        self._origins[endpoint] = origin
        return origin

    # Connections that come and go.

    async def _connect(self, origin: _Origin, seconds: float, late: type[WireError]) -> Connection:
        until = time.monotonic() + seconds
        origin.opening += 1
        try:
            async with _awake(seconds):
                addresses = await self._addresses(origin)
            for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
                try:
                    # One address that swallows everything leaves time for the others.
                    share = max(seconds / 2, until - time.monotonic()) / left
                    return await self._dial(origin, address, share)
                except OSError:
                    if left == 1:
                        raise
            raise NoConnection("No connection: it has no address.")
        except TimeoutError:
            raise late(f"No connection within {seconds:.2f} s.") from None
        except (OSError, UnicodeError) as error:
            raise NoConnection(f"No connection: {error}") from None
        finally:
            origin.opening -= 1

    async def _dial(self, origin: _Origin, address: str, seconds: float) -> Connection:
        """Raises ``OSError``, ``TimeoutError``."""
        connection = Connection(self._freed(origin), self._gone(origin))
        origin.open.add(connection)
        try:
            async with _awake(seconds):
                await self._loop.create_connection(
                    lambda: connection,
                    address,
                    origin.port,
                    ssl=transport.certificates() if origin.tls else None,
                    server_hostname=origin.host if origin.tls else None,
                )
        except BaseException:
            connection.abort()
            raise
        if self._closed:
            connection.abort()
            raise NoConnection("The pool is closed.")
        return connection

    def _freed(self, origin: _Origin) -> Callable[[Connection], None]:
        def freed(connection: Connection) -> None:
            self._under_way.pop(connection, None)
            origin.idle.append(connection)
            if self._sweeper is None:
                self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

        return freed

    def _gone(self, origin: _Origin) -> Callable[[Connection], None]:
        def gone(connection: Connection) -> None:
            self._under_way.pop(connection, None)
            origin.open.discard(connection)
            if connection in origin.idle:
                origin.idle.remove(connection)

        return gone

    async def _addresses(self, origin: _Origin) -> tuple[str, ...]:
        naming = origin.naming
        if naming is None or (naming.done() and time.monotonic() - origin.named_at > _NAME_SECONDS):
            # Shared by all who ask meanwhile, and outlives the one that began it.
            naming = origin.naming = self._loop.create_task(
                transport.addresses(origin.host, origin.port)
            )
            naming.add_done_callback(_seen)
            origin.named_at = time.monotonic()
        try:
            return await asyncio.shield(naming)
        except asyncio.CancelledError:
            if naming.cancelled():
                raise NoConnection("The pool is closed.") from None
            raise
        except OSError:
            if origin.naming is naming:
                origin.naming = None
            raise

    def _sweep(self) -> None:
        self._sweeper = None
        now = time.monotonic()
        waiting = False
        for origin in list(self._origins.values()):
            for connection in list(origin.idle):
                if now - connection.idle_since > IDLE_SECONDS:
                    connection.abort()
            waiting = waiting or bool(origin.idle)
            if not origin.open and not origin.opening and now - origin.heard_at > IDLE_SECONDS:
                del self._origins[origin.endpoint]
        if waiting:
            self._sweeper = self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    # The one timer of all requests.

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        delay = max(_SHORTEST_SECONDS, due - time.monotonic())
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        earliest = None
        for connection, origin in list(self._under_way.items()):
            due = connection.deadline
            if due <= now:
                waited = now - connection.sent_at
                connection.fail(TimedOut(f"No answer within {waited:.1f} s."))
                continue
            if connection.watched and origin.look is None:
                look_at = (
                    max(connection.sent_at, origin.heard_at, origin.looked_at) + SILENCE_SECONDS
                )
                if look_at <= now:
                    origin.look = self._loop.create_task(self._look(origin))
                else:
                    due = min(due, look_at)
            earliest = due if earliest is None else min(earliest, due)
        if earliest is not None:
            self._arm(earliest)

    async def _look(self, origin: _Origin) -> None:
        """Whoever waits since before two looks that nobody answered is told."""
        began = time.monotonic()
        try:
            reply = await self.request(
                "GET",
                origin.endpoint,
                self._alive_path,
                timeout_seconds=LOOK_SECONDS,
                connect_seconds=LOOK_SECONDS,
            )
            alive = reply.status == 200
        except WireError:
            alive = False
        # Where others were answered meanwhile it is slow, not dead.
        alive = alive or origin.heard_at > began
        for connection, where in list(self._under_way.items()):
            if where is origin and connection.watched and connection.sent_at <= began:
                connection.silences = 0 if alive else connection.silences + 1
                if connection.silences >= LOOKS:
                    connection.fail(WentSilent("The node went silent."))
        # The next look is as far from this one as this one was from the request.
        origin.looked_at = time.monotonic()
        origin.look = None
        self._arm(origin.looked_at)


def _seen(task: asyncio.Task[tuple[str, ...]]) -> None:
    # Whoever waited may be gone: an error that nobody sees is no news.
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def _awake(seconds: float) -> AsyncIterator[None]:
    """``asyncio.timeout`` in which no more than a slice passes while the loop stands still.

    A loop that a busy machine held up finds its deadline and the server's answer side by side: the
    server was there, and is not to be taken for dead. Raises ``TimeoutError``.
    """
    loop = asyncio.get_running_loop()
    left = _SLICES
    timer: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal left, timer
        left -= 1
        if left:
            timer = loop.call_later(seconds / _SLICES, tick)
        else:
            limit.reschedule(loop.time())

    timer = loop.call_later(seconds / _SLICES, tick)
    async with asyncio.timeout(None) as limit:
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
