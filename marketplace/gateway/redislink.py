"""One connection to Redis that runs one script, any number of times at once, answers in order.

redis-py takes some 80 µs for a command on an event loop: more than a whole call may take here.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Self, cast

from redis.asyncio.connection import parse_url

_DEFAULT_PORT: Final = 6379


class Refused(Exception):
    """Redis answered with an error; the text is Redis's own."""


# What a script returned (a string), or why it did not.
Answered = Callable[[bytes | Refused], None]


class Script:
    """A Lua script that returns a string, ready to be sent."""

    def __init__(self, text: str) -> None:
        octets = text.encode()
        digest = hashlib.sha1(octets, usedforsecurity=False).hexdigest().encode()
        self.by_digest: Final = bulk(b"EVALSHA") + bulk(digest)
        self.by_text: Final = bulk(b"EVAL") + bulk(octets)


class Link(asyncio.Protocol):
    """An open connection; ``lost`` is called once with the reason when it ends by itself."""

    def __init__(self, script: Script, lost: Callable[[str], None]) -> None:
        self._script = script
        self._lost: Callable[[str], None] | None = lost
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Answered] = deque()
        self._read = b""

    @classmethod
    async def open(cls, url: str, script: Script, lost: Callable[[str], None]) -> Self:
        """Connects as ``url`` says: ``redis://``, ``rediss://`` or ``unix://``, password, database.

        Raises ``OSError``, and ``Refused`` for a password or a database that Redis does not take.
        """
        options: dict[str, Any] = dict(parse_url(url))
        loop = asyncio.get_running_loop()
        link = cls(script, lost)
        if "path" in options:
            await loop.create_unix_connection(lambda: link, options["path"])
        else:
            await loop.create_connection(
                lambda: link,
                options.get("host", "localhost"),
                options.get("port", _DEFAULT_PORT),
                ssl=_tls(options) if url.startswith("rediss:") else None,
            )
        try:
            if options.get("password"):
                user = [options["username"]] if options.get("username") else []
                await link._ask("AUTH", *user, options["password"])
            if options.get("db"):
                await link._ask("SELECT", str(options["db"]))
        except BaseException:
            link.close()
            raise
        return link

    def run(self, rest: bytes, pieces: int, answered: Answered) -> None:
        """Runs the script. ``rest``: number of keys, keys and arguments, as bulk strings, of which
        there are ``pieces``. ``answered`` is called later, or never where the link is lost first.
        """

        def unless_unknown(answer: bytes | Refused) -> None:
            # Redis forgets its scripts at a restart; one that it does not know it has not run.
            if isinstance(answer, Refused) and str(answer).startswith("NOSCRIPT"):
                self._send(_command(self._script.by_text + rest, pieces + 2), answered)
            else:
                answered(answer)

        self._send(_command(self._script.by_digest + rest, pieces + 2), unless_unknown)

    def close(self) -> None:
        """Ends the connection without a word to ``lost``."""
        self._lost = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        reason = f"{type(error).__name__}: {error}" if error else "Redis closed the connection."
        waiting, self._waiting = self._waiting, deque()
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(reason)
        for answered in waiting:
            answered(Refused(reason))

    def data_received(self, data: bytes) -> None:
        data = self._read + data if self._read else data
        at = 0
        while (end := data.find(b"\r\n", at)) != -1:
            answer: bytes | Refused = data[at + 1 : end]
            after = end + 2
            kind = data[at]
            if kind == 0x24:  # $, a string of so many bytes
                size = int(data[at + 1 : end])
                after += size + 2
                if after > len(data):
                    break
                answer = data[end + 2 : after - 2]
            elif kind == 0x2D:  # -, an error
                answer = Refused(data[at + 1 : end].decode(errors="replace"))
            at = after
            if self._waiting:
                self._waiting.popleft()(answer)
        self._read = data[at:]

    def _send(self, command: bytes, answered: Answered) -> None:
        if self._transport is None or self._transport.is_closing():
            answered(Refused("The connection is closed."))
            return
        self._waiting.append(answered)
        self._transport.write(command)

    async def _ask(self, *words: str) -> None:
        answer: asyncio.Future[bytes | Refused] = asyncio.get_running_loop().create_future()

        def settle(found: bytes | Refused) -> None:
            if not answer.done():
                answer.set_result(found)

        self._send(_command(b"".join(bulk(word.encode()) for word in words), len(words)), settle)
        found = await answer
        if isinstance(found, Refused):
            raise found


def bulk(octets: bytes) -> bytes:
    """A string as it is sent."""
    return b"$%d\r\n%b\r\n" % (len(octets), octets)


def _command(pieces: bytes, count: int) -> bytes:
    return b"*%d\r\n%b" % (count, pieces)


def _tls(options: dict[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    if options.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
