"""One connection to a node and the one request that may be under way on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

HEADERS_MAX_BYTES: Final = 64 << 10
# Bodies from this size on are neither joined before they are written nor parsed once begun.
LARGE_BYTES: Final = 64 << 10
# So many bytes have to come for each that chunks cost: each chunk costs time, however small it is.
_CHUNK_CARRIES: Final = 4
_NO_BODY: Final = frozenset({204, 304})
_KEPT: Final = frozenset(
    {b"content-encoding", b"content-type", b"inference-header-content-length", b"retry-after"}
)


class WireError(Exception):
    """A request was not answered; the text is for a person."""


class NoConnection(WireError):
    """No connection came about: nothing was sent."""


class Broken(WireError):
    """The connection ended before the whole answer was there."""


class NotHttp(WireError):
    """What came is no answer that HTTP/1.1 allows here."""


class TooLarge(WireError):
    """The answer is larger than was allowed."""


class TimedOut(WireError):
    """The whole answer was not there in time."""


class WentSilent(WireError):
    """The server stopped to answer anything while it was to answer this."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; of its headers (lower case) only those that concern a node's answer."""

    status: int
    headers: dict[bytes, bytes]
    content: bytes = field(repr=False)


class Connection(asyncio.Protocol):
    """Written to once per request. Whatever is not a clean end of an answer ends the connection.

    ``on_free`` is called when it may carry the next request, ``on_gone`` once when it never will.
    """

    _status: int
    _length: int
    _max_bytes: int
    _received: int
    _body_bytes: int
    _pieces: list[bytes]
    _headers: dict[bytes, bytes]
    _in_body: bool
    _until_close: bool
    _direct: bool
    _complete: bool
    _keep: bool
    _stray: bool
    _fault: WireError | None

    def __init__(
        self,
        on_free: Callable[[Connection], None],
        on_gone: Callable[[Connection], None],
    ) -> None:
        self._on_free, self._on_gone = on_free, on_gone
        self._transport: asyncio.Transport | None = None
        self._given_up = False
        self._parser = httptools.HttpResponseParser(self)
        self.answer: asyncio.Future[Reply] | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline = self.sent_at = self.idle_since = 0.0
        self.watched = False
        self.silences = 0
        self._reset(0)

    @property
    def ended(self) -> bool:
        """Whether no socket is left of it."""
        return self._transport is None

    @property
    def usable(self) -> bool:
        """Whether a request can be written to it."""
        return (
            self.answer is None and self._transport is not None and not self._transport.is_closing()
        )

    def ask(
        self,
        answer: asyncio.Future[Reply],
        head: bytes,
        body: bytes | tuple[bytes, ...],
        *,
        max_bytes: int,
    ) -> None:
        """Writes a request; ``answer`` gets the ``Reply`` or a ``WireError``."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Broken("The connection had ended.")
        self.answer = answer
        self._reset(max_bytes)
        if isinstance(body, tuple):
            transport.writelines([head, *body])
        elif len(body) < LARGE_BYTES:
            transport.write(head + body)
        else:
            transport.writelines([head, body])

    def fail(self, error: WireError) -> None:
        """Ends the request under way, and the connection with it."""
        answer, self.answer = self.answer, None
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def abort(self) -> None:
        """Ends the connection at once."""
        self.answer = None
        self._given_up = True
        self._on_gone(self)
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._given_up:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.answer is None:
            # Nothing was asked: what comes now would be taken for the next answer.
            self.abort()
            return
        self._received += len(data)
        if self._direct:
            self._take(data)
        else:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                if not self._complete:
                    self.fail(self._fault or NotHttp(f"It does not speak HTTP/1.1 ({error})."))
                    return
                self._stray = True
        if self._complete:
            self._finish()
        elif self._received - self._body_bytes > (
            HEADERS_MAX_BYTES + self._body_bytes // _CHUNK_CARRIES
        ):
            self.fail(NotHttp("It sends headers, or chunks of nothing, without end."))
        elif self._in_body and self._length >= LARGE_BYTES:
            # The length is known: what follows needs no parser.
            self._direct = True

    def eof_received(self) -> None:
        if self.answer is not None and self._in_body and self._until_close:
            self._keep = False
            self._finish()
        elif self.answer is None:
            self._on_gone(self)

    def connection_lost(self, error: Exception | None) -> None:
        answer, self.answer = self.answer, None
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        self._on_gone(self)
        if answer is not None and not answer.done():
            answer.set_exception(
                Broken(f"It closed the connection before it had answered ({error or 'end'}).")
            )

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._stray = True
        else:
            # Whatever an interim answer said is not about the real one.
            self._headers = {}
            self._length, self._until_close, self._in_body = -1, True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body or self._complete:
            return
        name = name.lower()
        if name in _KEPT:
            self._headers[name] = value
        elif name == b"content-length":
            self._length = int(value)
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise self._refused(NotHttp("It encodes the transfer in a way not asked for."))
            self._until_close = False

    def on_headers_complete(self) -> None:
        if self._complete:
            return
        self._in_body = True
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        if self._length > self._max_bytes:
            raise self._refused(self._too_large())
        if self._length >= 0 or self._status in _NO_BODY:
            self._until_close = False
        if self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise self._refused(NotHttp("It compressed its answer, which was not asked for."))

    def on_body(self, body: bytes) -> None:
        if self._complete:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._max_bytes:
            raise self._refused(self._too_large())
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._status < 200:
            self._in_body = False
        elif not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    def _reset(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces = []
        self._headers = {}
        self._status = 0
        self._length = -1
        self._received = self._body_bytes = 0
        self._in_body = self._complete = self._direct = self._stray = self._keep = False
        self._until_close = True
        self._fault = None

    def _refused(self, fault: WireError) -> WireError:
        self._fault = fault
        return fault

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The answer is larger than {self._max_bytes} bytes.")

    def _take(self, data: bytes) -> None:
        missing = self._length - self._body_bytes
        if len(data) > missing:
            data, self._stray = data[:missing], True
        self._pieces.append(data)
        self._body_bytes += len(data)
        if self._body_bytes == self._length:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
            # The old one still waits for the body.
            self._parser = httptools.HttpResponseParser(self)

    def _finish(self) -> None:
        answer, self.answer = self.answer, None
        pieces = self._pieces
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        transport = self._transport
        if (
            self._keep
            and not self._stray
            and transport is not None
            and not transport.is_closing()
            # An answer before the whole question was read leaves the rest of it on the way.
            and not transport.get_write_buffer_size()
        ):
            self.idle_since = time.monotonic()
            self._on_free(self)
        else:
            self.abort()
        if answer is not None and not answer.done():
            answer.set_result(Reply(self._status, self._headers, content))
