"""What both fronts hand to the gateway's handlers and get back: HTTP without a framework.

A handler is one ``async`` function for one address. The ASGI front awaits it on its own loop, the
REST framework's views from a thread: what a caller sees is decided by the handler alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from inframind.identity.caller import Caller
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import CONTENT_TYPE, Problem


@dataclass(slots=True, eq=False)
class Request:
    """One HTTP request, its body read whole. ``headers`` by their names in lower case, those that
    stand twice joined by commas.

    ``caller`` is for fronts that know who calls without a token. ``gone``, where the front can
    tell, returns once the client has closed its connection.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    remote_address: str = ""
    caller: Caller | None = None
    call_id: UUID = field(default_factory=new_uuid7)  # of the call that this makes, if it makes one
    gone: Callable[[], Awaitable[None]] | None = None


@dataclass(slots=True, eq=False)
class Answer:
    """One HTTP answer. A body that is an iterator is sent piece by piece, as the pieces come; the
    front ends the iterator when its reader has gone: an async generator then sees
    ``CancelledError`` where it awaits, or ``GeneratorExit`` where it yields."""

    status: int
    body: bytes | AsyncIterator[bytes] = field(repr=False)
    headers: dict[str, str]


Handler = Callable[[Request, str], Awaitable[Answer]]
"""Of a request and the model's reference (``name`` or ``name@version``) in its address.

Raises a ``Problem`` for what it refuses.
"""


def problem_answer(
    problem: Problem, call_id: UUID | None = None, *, request_id: str = ""
) -> Answer:
    """The refusal as a document; ``call_id``: the call that it ended, else ``request_id``."""
    instance = f"urn:request:{request_id}" if request_id else ""
    if call_id is not None:
        instance = f"urn:uuid:{call_id}"
    headers = {**problem.headers, "Content-Type": CONTENT_TYPE}
    return Answer(problem.status, orjson.dumps(problem.as_document(instance=instance)), headers)


class Pieces:
    """Reads an answer's iterator piece by piece, on the loop that it is read on first, so that
    another task can end it at any moment."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._reading: asyncio.Task[bytes | None] | None = None
        self._ending: asyncio.Task[None] | None = None

    async def next(self) -> bytes | None:
        """The next piece; None after the last one, or once the reader has gone."""
        if self._ending is not None:
            return None
        self._reading = asyncio.ensure_future(self._next())
        # Whoever waits for this may be cancelled; the iterator is ended by ``end`` alone.
        await asyncio.wait({self._reading})
        return None if self._reading.cancelled() else self._reading.result()

    async def end(self) -> None:
        """Ends the iterator, wherever it is, and waits until it has cleaned up."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end())
        # What a call leaves behind is written down, whoever stops waiting for it.
        await asyncio.shield(self._ending)

    async def _next(self) -> bytes | None:
        return await anext(self._body, None)

    async def _end(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()
